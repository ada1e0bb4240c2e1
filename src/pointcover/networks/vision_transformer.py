"""Vision transformers of timm as encoders: the features of some of their blocks."""

from collections.abc import Sequence
from typing import Any, Final

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

MODULES: Final = ("vision_transformer", "eva", "deit")
"""timm's modules of vision transformers that keep one size of cells, and take images of any."""

STRIDES_PX: Final = {8: 8, 14: 16, 16: 16, 32: 32}
"""Pixels of the image for each cell, by the size of a patch. Images are resized for patches of 14
px, so that cells of neighbouring windows lie on one grid, and images can have the usual sizes."""

LEVELS: Final = 4
"""Blocks whose features are used where none are chosen."""


def is_vision_transformer(name: str) -> bool:
    """Return whether timm's model of this name is a vision transformer; it is not built."""
    plain = name.partition(".")[0]
    return timm.is_model(plain) and timm.models.is_model_in_modules(plain, MODULES)


class VisionTransformer(nn.Module):
    """The tokens of some blocks as levels of features, all with the same stride.

    Position embeddings are interpolated to the size of the image. Prefix tokens (class, registers)
    take part in attention, but are no features. Levels are normalised by the last layer's norm,
    as those of DINOv2 and DINOv3 are for dense tasks.
    """

    def __init__(self, name: str, bands: int, blocks: Sequence[int] | None = None) -> None:
        """Build the encoder with random weights.

        Args:
            name: of timm.
            bands: of the images.
            blocks: whose features are returned, from 1; None for four, evenly spaced.

        Raises:
            ValueError: the patches have another size, or there are fewer blocks.
        """
        super().__init__()
        self.name = name
        model: Any = timm.create_model(
            name, pretrained=False, in_chans=bands, num_classes=0, dynamic_img_size=True
        )
        rows, cols = model.patch_embed.patch_size
        if rows != cols or rows not in STRIDES_PX:
            raise ValueError(
                f"got patches of {rows} × {cols} px, wanted sides of "
                f"{', '.join(map(str, STRIDES_PX))} px: choose another vision transformer"
            )
        count = len(model.blocks)
        blocks = blocks or [max(1, count * n // LEVELS) for n in range(1, LEVELS + 1)]
        if not all(1 <= block <= count for block in blocks):
            raise ValueError(
                f"got blocks {list(blocks)}, wanted numbers from 1 to {count}, which {name} has"
            )
        self.patch_px, self.stride_px = rows, STRIDES_PX[rows]
        self.channels = int(model.embed_dim)
        self._places = [block - 1 for block in blocks]
        model.prune_intermediate_layers(self._places)
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the levels: (N, bands, H, W) → (N, channels, H / stride, W / stride) each."""
        model = self.model
        if self.patch_px != self.stride_px:
            rows, cols = (side // self.stride_px * self.patch_px for side in images.shape[2:])
            images = functional.interpolate(images, (rows, cols), mode="bicubic")
        cells = model.patch_embed(images)
        rows, cols = cells.shape[1:3]
        tokens = model.norm_pre(self._add_positions(cells))
        rope = getattr(model, "rope", None)
        angles = None if rope is None else rope.get_embed(shape=(rows, cols))
        is_mixed = getattr(model, "rope_mixed", False)
        levels = []
        for place, block in enumerate(model.blocks):
            if angles is None:
                tokens = block(tokens)
            else:
                tokens = block(tokens, rope=angles[place] if is_mixed else angles)
            if place in self._places:
                features = model.norm(tokens)[:, model.num_prefix_tokens :]
                levels.append(features.unflatten(1, (rows, cols)).permute(0, 3, 1, 2))
        return levels

    def _add_positions(self, cells: Tensor) -> Tensor:
        """Add position embeddings to (N, h, w, C), and put prefix tokens first: (N, tokens, C).

        timm has its own function for it, whose resampling other engines compute otherwise.
        """
        model = self.model
        own = [getattr(model, name, None) for name in ("cls_token", "dist_token", "reg_token")]
        prefix = [one.expand(cells.shape[0], -1, -1) for one in own if one is not None]
        if model.pos_embed is None:
            return torch.cat([*prefix, cells.flatten(1, 2)], dim=1)
        embedded = model.pos_embed
        if prefix and not model.no_embed_class:
            count = model.num_prefix_tokens
            prefix = [torch.cat(prefix, dim=1) + embedded[:, :count]]
            embedded = embedded[:, count:]
        grid = embedded[0].unflatten(0, model.patch_embed.grid_size)
        rows, cols = (
            resampling_weights(old, new, cells)
            for old, new in zip(grid.shape[:2], cells.shape[1:3], strict=True)
        )
        placed = cells + torch.einsum("ri,cj,ijk->rck", rows, cols, grid)
        return torch.cat([*prefix, placed.flatten(1, 2)], dim=1)


def resampling_weights(old: int, new: int, like: Tensor) -> Tensor:
    """Return the weights (new, old) of bicubic resampling with antialiasing, as torch has it.

    Args:
        old: number of values.
        new: number of values that they are resampled to; may be symbolic, in an export.
        like: has the device of the result, which is float32.
    """
    stretch = old / torch.scalar_tensor(new, device=like.device)
    width = stretch.clamp(min=1)
    centres = (torch.arange(new, device=like.device) + 0.5) * stretch
    places = torch.arange(old, device=like.device) + 0.5
    far = (places - centres[:, None]).abs() / width
    near = (1.5 * far - 2.5) * far * far + 1
    tail = ((-0.5 * far + 2.5) * far - 4) * far + 2
    weights = torch.where(far < 1, near, torch.where(far < 2, tail, 0.0))
    return weights / weights.sum(dim=1, keepdim=True)
