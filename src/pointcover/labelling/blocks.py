"""Blocks of an image at a level, with the features of their pixels."""

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from pointcover.features.encoder_pyramid import sample_points, sample_rows
from pointcover.labelling.view import Extent
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import BlockName
from pointcover.raster.overviews import LevelReader, Valid

BAND_PX: Final = 64
"""Rows that are classified at once."""

COARSE: Final = 2
"""The first map after a click has the class of every so-many-th pixel; the next one all. The
features of these pixels are kept a second time, beside each other."""


def read_features(
    reader: LevelReader, features: PixelFeatures, level: int, extent: Extent
) -> "BlockFeatures":
    """Read an extent with the margin that its features need, within the image; compute them.

    Args:
        reader: of the image.
        features: blocks of features.
        level: of the extent.
        extent: begins at multiples of the features' alignment.

    Raises:
        ValueError: the image is damaged there.
    """
    height, width = reader.size(level)
    margin_px = features.margin_px
    top, left = max(extent.top - margin_px, 0), max(extent.left - margin_px, 0)
    bottom = min(extent.top + extent.height + margin_px, height)
    right = min(extent.left + extent.width + margin_px, width)
    image, valid = reader.read(level, top, left, (bottom - top, right - left))
    inner = Extent(extent.top - top, extent.left - left, extent.height, extent.width)
    return BlockFeatures(features, torch.from_numpy(image)[None], valid, inner)


class BlockFeatures:
    """The features of the pixels of one extent, in half precision."""

    def __init__(self, features: PixelFeatures, image: Tensor, valid: Valid, inner: Extent) -> None:
        """Compute the features.

        Args:
            features: blocks of features.
            image: (1, bands, H, W) raw, of the extent and a margin around it.
            valid: (H, W): which pixels have data.
            inner: the extent, in pixels of the image.
        """
        self.height, self.width = inner.height, inner.width
        self.valid = valid[
            inner.top : inner.top + inner.height, inner.left : inner.left + inner.width
        ]
        self._inner = inner
        self._dense: dict[BlockName, Tensor] = {}
        self._coarse: dict[BlockName, Tensor] = {}
        self._levels: list[Tensor] = []
        self._padded = 0, 0
        scaled = features.scale(image)
        if features.filter_bank is not None:
            self._dense["filter_bank"] = _middle(features.filter_bank, scaled, inner)
        if features.local_statistics is not None:
            self._dense["local_statistics"] = _middle(features.local_statistics, scaled, inner)
        self._coarse = {
            name: dense[:, :, ::COARSE, ::COARSE].contiguous()
            for name, dense in self._dense.items()
        }
        if features.encoder is not None:
            levels = features.encoder.encode(scaled[:, features.encoder_bands])
            self._levels = [level.values for level in levels]
            rows, cols = (features.encoder.padded(side) for side in image.shape[2:])
            self._padded = rows, cols

    @property
    def mib(self) -> float:
        """Memory of the features, MiB."""
        kept = [*self._dense.values(), *self._coarse.values(), *self._levels]
        return sum(one.numel() * one.element_size() for one in kept) / 2**20

    def at(self, rows: Tensor, cols: Tensor) -> dict[BlockName, Tensor]:
        """Return the features of pixels of the extent: (P, features) float32 by block of features.

        Args:
            rows: (P,) integers, from the first row of the extent.
            cols: (P,) integers.
        """
        found = {name: dense[0][:, rows, cols].T.float() for name, dense in self._dense.items()}
        if self._levels:
            places = rows + self._inner.top, cols + self._inner.left
            parts = [sample_points(level[0], *places, self._padded) for level in self._levels]
            found["encoder"] = torch.cat(parts, dim=1)
        return found

    def dense(self, block: BlockName, rows: slice, step: int) -> Tensor:
        """Return a block of features of every `step`-th pixel of some rows."""
        if step == COARSE:
            return self._coarse[block][:, :, rows.start // step : -(-rows.stop // step)]
        return self._dense[block][:, :, rows][:, :, ::step, ::step]

    def project(self, weight: Tensor, rows: slice, step: int) -> Tensor:
        """Apply a linear layer (K, features) to the encoder: (1, K, rows, W), every `step`-th."""
        inner = self._inner
        placed = slice(rows.start + inner.top, rows.stop + inner.top)
        total: Tensor | None = None
        first = 0
        for level in self._levels:
            columns = weight[:, first : first + level.shape[1]].float()
            first += level.shape[1]
            if step == 1:
                part = sample_rows(level, placed, self._padded, columns)
            else:
                part = _sample_cells(level, placed, (self._padded, step), columns)
            total = part if total is None else total + part
        assert total is not None
        left = inner.left // step
        return total[:, :, :, left : left + -(-inner.width // step)]


class BlockRows:
    """Some rows of a block, as heads read features."""

    def __init__(self, block: BlockFeatures, rows: slice, step: int) -> None:
        """Take the rows, and every `step`-th pixel of them."""
        self._block, self._rows, self._step = block, rows, step

    def dense(self, block: BlockName) -> Tensor:
        """Return a block of features: (1, features, H, W)."""
        return self._block.dense(block, self._rows, self._step)

    def project(self, block: BlockName, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply a linear layer to a block of features: weight (K, features), bias (K,)."""
        if block == "encoder":
            found = self._block.project(weight, self._rows, self._step)
        else:
            found = torch.einsum("kf,nfhw->nkhw", weight, self.dense(block).float())
        return found + bias.view(1, -1, 1, 1)


def _sample_cells(
    level: Tensor, rows: slice, sizes: tuple[tuple[int, int], int], weight: Tensor
) -> Tensor:
    """Apply a linear layer to an encoder's level, and sample it in the middle of squares of pixels.

    Args:
        level: (1, C, h, w).
        rows: of the image; the first one is the first one of a square.
        sizes: of the image, and of the squares.
        weight: (K, C).

    Returns:
        (1, K, rows of squares, columns of squares of the whole image).
    """
    size, step = sizes
    cells = level.shape[2]
    middles = torch.arange(rows.start, rows.stop, step, dtype=torch.float64) + step / 2
    place = (middles * cells / size[0] - 0.5).clamp(0, cells - 1)
    before = place.floor().long()
    after = (before + 1).clamp(max=cells - 1)
    first = int(before[0])
    part = level[:, :, first : int(after[-1]) + 1].float()
    part = functional.conv2d(part, weight[:, :, None, None])
    above, below = (part.index_select(2, one - first) for one in (before, after))
    part = torch.lerp(above, below, (place - before).float()[:, None])
    shape = len(place), size[1] // step
    return functional.interpolate(part, size=shape, mode="bilinear", align_corners=False)


def _middle(module: object, image: Tensor, inner: Extent) -> Tensor:
    """Compute features of the extent alone, from no more margin than they need."""
    margin_px: int = module.margin_px  # type: ignore[attr-defined]
    top, left = max(inner.top - margin_px, 0), max(inner.left - margin_px, 0)
    bottom, right = inner.top + inner.height + margin_px, inner.left + inner.width + margin_px
    with torch.no_grad():
        found: Tensor = module(image[:, :, top:bottom, left:right])  # type: ignore[operator]
    rows = slice(inner.top - top, inner.top - top + inner.height)
    cols = slice(inner.left - left, inner.left - left + inner.width)
    return found[:, :, rows, cols].half()
