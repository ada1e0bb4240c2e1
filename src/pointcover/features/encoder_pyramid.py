"""Pixel features from the levels of a frozen encoder, at one or several scales of the image."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointcover.features.encoder_stripes import StripedEncoder
from pointcover.features.gaussian import Part, whole_of
from pointcover.features.level_cache import LevelCache, digest_module, key_of
from pointcover.features.settings import EncoderFeatureSettings

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

_PROBE_PX: Final = 256
"""Side of the image with which the sizes of the levels are determined."""


PART_CELLS: Final = 8
"""Cells of the coarsest level of a scale that are computed around a part of an image."""

_BICUBIC_PX: Final = 4
"""Rows around a stripe with which it is enlarged."""


class PartLevel(NamedTuple):
    """A level of a part of an image and its surroundings."""

    values: Tensor
    """(1, channels, h, w), in the encoder's type."""
    rows: slice
    """Rows of the image, padded, that the cells cover."""
    cols: slice

    def sample(self, rows: slice, cols: slice, weight: Tensor | None = None) -> Tensor:
        """Sample rows and columns of the image bilinearly: see `sample_rows`."""
        size = self.rows.stop - self.rows.start, self.cols.stop - self.cols.start
        top, left = self.rows.start, self.cols.start
        chosen = slice(rows.start - top, rows.stop - top)
        sampled = sample_rows(self.values, chosen, size, weight)
        return sampled[..., cols.start - left : cols.stop - left]


class _Level(NamedTuple):
    """An output of the encoder."""

    number: int
    """1 for the finest, as in the settings."""
    place: int
    """Index among the encoder's outputs."""
    channels: int
    stride: int
    """Pixels of the encoder's input per cell."""


class _View(NamedTuple):
    """A rotation or a flip, or both."""

    axes: tuple[int, ...]
    """That are flipped."""
    is_transposed: bool
    """Whether rows and columns are exchanged afterwards."""

    def turn(self, images: Tensor) -> Tensor:
        """Turn (N, C, H, W)."""
        flipped = images.flip(self.axes) if self.axes else images
        return flipped.transpose(2, 3).contiguous() if self.is_transposed else flipped

    def undo(self, levels: Tensor) -> Tensor:
        """Turn back."""
        back = levels.transpose(2, 3) if self.is_transposed else levels
        return back.flip(self.axes) if self.axes else back


_FLIPS: Final = ((), (2, 3), (2,), (3,))
_VIEWS: Final = tuple(_View(axes, turned) for turned in (False, True) for axes in _FLIPS)
"""The first 1, 2, 4 and 8 are groups: their mean is the same for every view in them."""


class EncoderPyramid(nn.Module):
    """Sample the levels of an encoder at pixels.

    The encoder is frozen: it stays in evaluation mode, and its parameters need no gradient. The
    image is resized by each scale (bicubic), and each level of the encoder is sampled bilinearly at
    the centres of the image's pixels. With `views` levels are means over rotated and flipped views:
    a strided encoder is not symmetric, and means have less noise. Images are reflected at their
    lower and right edges up to a multiple of `alignment_px`. Within autocast the encoder computes
    in autocast's type; features are float32. In bfloat16 those of EfficientNet-Lite0 differ by 0.03
    to 0.04 of their standard deviation (root mean square).

    Features of all pixels take much memory. `at` samples some pixels. `project` applies a linear
    layer to the levels before sampling, which gives the same logits as after it (sampling is linear
    too, and its weights sum to one).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        settings: EncoderFeatureSettings | None = None,
    ) -> None:
        """Freeze an encoder and determine its levels.

        Args:
            encoder: returns a list of levels, each (N, channels, h, w): an encoder of
                segmentation-models-pytorch or a timm model made with `features_only=True`.
            mean: of each band, in 0..1, which the encoder's weights expect to be subtracted.
            std: of each band, by which the encoder's weights expect images to be divided.
            settings: scales and levels.
        """
        super().__init__()
        self.settings = settings or EncoderFeatureSettings()
        self.encoder = encoder.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self._levels = self._find_levels()
        self._striped = StripedEncoder(encoder) if StripedEncoder.fits(encoder) else None
        self.alignment_px = int(
            max(1, *(level.stride / min(self.settings.scales) for level in self._levels))
        )
        """Windows begin at multiples of this, where cells of all levels begin."""
        self.cache: LevelCache | None = None
        """Keeps levels that were computed on a CPU."""
        self._digest: str | None = None
        self.register_load_state_dict_post_hook(_forget_digest)  # type: ignore[no-untyped-call]

    @property
    def bands(self) -> int:
        """Number of bands of an image."""
        return int(self.mean.numel())

    @property
    def count(self) -> int:
        """Number of features of a pixel."""
        return len(self.settings.scales) * sum(level.channels for level in self._levels)

    @property
    def margin_px(self) -> int:
        """Pixels to read around a window, a multiple of the alignment.

        The receptive field of the deepest level is larger than this margin, but the pixels beyond
        it have little weight: features of windows are close to those of the whole image, not equal.
        For EfficientNet-Lite0 with ImageNet weights on aerial images, at scales 1 and 2, the
        difference in windows of 256 px (root mean square, relative to the standard deviation of the
        feature) is 0.004 to 0.006 in the last level with 8 cells, 0.03 to 0.04 with 6, 0.11 to 0.15
        with 4, and at most 0.001 in all other levels with 4.
        """
        return self.settings.margin_cells * self.alignment_px

    def names(self) -> tuple[str, ...]:
        """Name the features, in the order of the output."""
        return tuple(
            f"scale_{scale:g}_level_{level.number}_channel_{channel}"
            for scale in self.settings.scales
            for level in self._levels
            for channel in range(1, level.channels + 1)
        )

    def train(self, mode: bool = True) -> "EncoderPyramid":
        """Stay in evaluation mode."""
        return super().train(mode=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Compute all features of all pixels: (N, bands, H, W) in 0..1 to (N, features, H, W)."""
        levels = (self._sample(level, images) for level in self.levels_of(images))
        return torch.cat(list(levels), dim=1)

    @torch.no_grad()
    def at(self, image: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        """Compute the features of some pixels of an image.

        Args:
            image: (bands, H, W) floating point, in 0..1.
            rows: (P,) integers.
            cols: (P,) integers.

        Returns:
            (P, features) float32, as `forward` has them at these pixels.
        """
        height, width = (self.padded(side) for side in image.shape[1:])
        return torch.cat(
            [
                sample_points(level[0], rows, cols, (height, width))
                for level in self.levels_of(image[None])
            ],
            dim=1,
        )

    @torch.no_grad()
    def project(self, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply a linear layer to the features of all pixels, level by level before sampling.

        Args:
            images: (N, bands, H, W) floating point, in 0..1.
            weight: (K, features).
            bias: (K,).

        Returns:
            (N, K, H, W) float32.
        """
        if weight.shape != (len(bias), self.count):
            raise ValueError(
                f"got a weight of shape {tuple(weight.shape)} and {len(bias)} biases, wanted "
                f"({len(bias)}, {self.count}): fit the linear layer on the features of these "
                "settings and this encoder"
            )
        logits = bias.float().view(1, -1, 1, 1)
        first = 0
        for level in self.levels_of(images):
            columns = weight[:, first : first + level.shape[1], None, None].float()
            first += level.shape[1]
            with torch.autocast(images.device.type, enabled=False):
                logits = logits + self._sample(functional.conv2d(level, columns), images)
        return logits

    @torch.no_grad()
    def encode(self, image: Tensor, part: Part | None = None) -> list[PartLevel]:
        """Compute the levels of all scales for a part of an image.

        Args:
            image: (1, bands, H, W) floating point, in 0..1.
            part: the rows and columns that will be sampled; all by default. On a CPU encoders that
                are computed in stripes see it with PART_CELLS cells around it, others everything.
        """
        normal = self._normalise(image)
        rows, cols = whole = whole_of(normal)
        found = []
        for scale in self.settings.scales:
            if part and self._striped_for(normal):
                cell_px = max(1, round(max(level.stride for level in self._levels) / scale))
                limits = zip(part, (rows.stop, cols.stop), strict=True)
                seen = [_surround(each, cell_px, limit) for each, limit in limits]
            else:
                seen = list(whole)
            levels = self._encode(normal[:, :, seen[0], seen[1]], scale)
            found += [PartLevel(level, *seen) for level in levels]
        return found

    def levels_of(self, images: Tensor) -> Iterator[Tensor]:
        """Compute the levels of each scale, (N, channels, h, w) float32."""
        normal = self._normalise(images)
        for scale in self.settings.scales:
            for level in self._encode(normal, scale):
                yield level.float()

    def _normalise(self, images: Tensor) -> Tensor:
        """Check, pad and normalise images."""
        if images.ndim != 4 or not images.is_floating_point() or images.shape[1] != self.bands:
            raise ValueError(
                f"got {images.dtype} of shape {tuple(images.shape)}, wanted floating-point images "
                f"(N, {self.bands}, H, W) in 0..1: divide integers by their largest value, choose "
                "the bands of the encoder"
            )
        return (self._pad(images.float()) - self.mean) / self.std

    def _striped_for(self, images: Tensor) -> StripedEncoder | None:
        return self._striped if _is_eager(images) else None

    def _encode(self, normal: Tensor, scale: float) -> list[Tensor]:
        """Compute or read the levels of normalised images at a scale, in the encoder's type."""
        if self.cache is None or not _is_eager(normal):
            return self._compute(normal, scale)
        self._digest = self._digest or digest_module(self.encoder)
        places = [level.place for level in self._levels]
        about = (self._digest, scale, self.settings.views, places, _autocast_of(normal))
        return self.cache.get(key_of(normal, about), partial(self._compute, normal, scale))

    def _compute(self, normal: Tensor, scale: float) -> list[Tensor]:
        first, *others = _VIEWS[: self.settings.views]
        mean = self._encode_view(first.turn(normal), scale)
        if not others:
            return mean
        mean = [level / self.settings.views for level in mean]
        for view in others:
            for one, level in zip(mean, self._encode_view(view.turn(normal), scale), strict=True):
                one.add_(view.undo(level), alpha=1 / self.settings.views)
        return mean

    def _encode_view(self, normal: Tensor, scale: float) -> list[Tensor]:
        """Compute the levels of one view."""
        if striped := self._striped_for(normal):
            read = partial(_resize_rows, normal, scale)
            outputs = striped.encode(read, round(normal.shape[2] * scale))
        else:
            resized = _resize(normal, scale)
            outputs = self.encoder(resized.contiguous(memory_format=torch.channels_last))
        return [outputs[level.place] for level in self._levels]

    def padded(self, side: int) -> int:
        """Return a height or width up to the next multiple of the alignment."""
        return -(-side // self.alignment_px) * self.alignment_px

    def _pad(self, images: Tensor) -> Tensor:
        """Reflect images at the lower and right edges up to a multiple of the alignment."""
        for axis in (2, 3):
            length = images.shape[axis]
            if length % self.alignment_px:
                places = torch.arange(self.padded(length), device=images.device) % (2 * length)
                places = torch.minimum(places, 2 * length - 1 - places)
                images = images.index_select(axis, places)
        return images

    def _sample(self, level: Tensor, images: Tensor) -> Tensor:
        """Sample a level at the centres of the pixels of images."""
        height, width = images.shape[2:]
        size = (self.padded(height), self.padded(width))
        sampled = functional.interpolate(level, size=size, mode="bilinear", align_corners=False)
        return sampled[:, :, :height, :width]

    def _find_levels(self) -> tuple[_Level, ...]:
        """Apply the encoder to a blank image, and select the levels among its outputs."""
        blank = torch.zeros(1, self.bands, _PROBE_PX, _PROBE_PX, device=self.mean.device)
        with torch.no_grad():
            outputs: Any = self.encoder(blank)
        # smp's encoders return the image itself first, and some of them an empty second level.
        places = [
            place for place, output in enumerate(outputs) if output is not blank and output.shape[1]
        ]
        found = []
        for number, place in enumerate(places, start=1):
            channels, cells = outputs[place].shape[1:3]
            if _PROBE_PX % cells:
                raise ValueError(
                    f"got {cells} cells of level {number} for {_PROBE_PX} px, wanted a divisor: "
                    "choose an encoder whose strides are powers of two"
                )
            found.append(_Level(number, place, channels, _PROBE_PX // cells))
        wanted = self.settings.levels or range(1, len(found) + 1)
        if max(wanted, default=1) > len(found):
            raise ValueError(
                f"got levels {list(wanted)}, wanted some of 1 to {len(found)}, which this encoder "
                "has: change `levels`"
            )
        return tuple(found[number - 1] for number in wanted)


def use_cache(model: nn.Module, cache: LevelCache | None) -> None:
    """Have the encoder pyramids of a model keep their levels in a cache."""
    for module in model.modules():
        if isinstance(module, EncoderPyramid):
            module.cache = cache


def _is_eager(images: Tensor) -> bool:
    """Whether images are computed now, and on a CPU."""
    return images.device.type == "cpu" and not torch.compiler.is_compiling()


def _autocast_of(images: Tensor) -> torch.dtype | None:
    """Return the type in which the encoder computes within autocast."""
    kind = images.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _forget_digest(pyramid: nn.Module, _: object) -> None:
    """Have the digest of the encoder computed again after others were loaded."""
    pyramid._digest = None  # type: ignore[assignment]


def _resize(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    if scale > 1 and _is_eager(images):
        from pointcover.features.resize_loops import enlarge

        # Many times as fast as torch.
        planes = images.detach().flatten(0, 1).contiguous()
        enlarged = torch.from_numpy(enlarge(planes.numpy(), int(scale)))
        return enlarged.view(*images.shape[:2], *enlarged.shape[1:])
    return functional.interpolate(images, scale_factor=scale, mode="bicubic", antialias=scale < 1)


def _resize_rows(images: Tensor, scale: float, first: int, last: int) -> Tensor:
    """Resize images, and return some rows; others are not computed."""
    around = round(_BICUBIC_PX / min(scale, 1))
    step = max(1, round(1 / scale))
    top = max(0, int(first / scale) - around) // step * step
    bottom = min(images.shape[2], -(-int(last / scale + 1) // step) * step + around)
    start = round(top * scale)
    return _resize(images[:, :, top:bottom], scale)[:, :, first - start : last - start]


def _surround(part: slice, cell_px: int, limit: int) -> slice:
    """Return whole cells with those around them, within the image."""
    first = part.start // cell_px - PART_CELLS
    last = -(-part.stop // cell_px) + PART_CELLS
    return slice(max(0, first) * cell_px, min(last * cell_px, limit))


def sample_rows(
    level: Tensor, rows: slice, size: tuple[int, int], weight: Tensor | None = None
) -> Tensor:
    """Sample (N, C, h, w) bilinearly at some rows of an image: (N, C, rows, W).

    Args:
        level: of the encoder.
        rows: of the image.
        size: of the image, a multiple of the alignment.
        weight: (K, C), a linear layer that is applied first; then K takes the place of C.
    """
    height, cells = size[0], level.shape[2]
    if level.shape[2:] == size:  # a cell for each pixel
        part = level[:, :, rows].float()
        return part if weight is None else functional.conv2d(part, weight[:, :, None, None])
    pixels = torch.arange(rows.start, rows.stop, device=level.device, dtype=torch.float64)
    place = ((pixels + 0.5) * cells / height - 0.5).clamp(0, cells - 1)
    before = place.floor().long()
    after = (before + 1).clamp(max=cells - 1)
    first = int(before[0])
    part = level[:, :, first : int(after[-1]) + 1]
    if weight is not None:
        part = functional.conv2d(part.float(), weight[:, :, None, None])
    fraction = (place - before).float()[:, None]
    part = part.float()
    part = torch.lerp(
        part.index_select(2, before - first), part.index_select(2, after - first), fraction
    )
    return functional.interpolate(
        part, size=(len(pixels), size[1]), mode="bilinear", align_corners=False
    )


def sample_points(level: Tensor, rows: Tensor, cols: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample (C, h, w) bilinearly at pixels of an image of this size: (P, C)."""
    corners: list[tuple[Tensor, Tensor]] = []
    weights = []
    for pixels, length, cells in zip((rows, cols), size, level.shape[1:], strict=True):
        place = ((pixels.double() + 0.5) * cells / length - 0.5).clamp(0, cells - 1)
        before = place.floor().long()
        corners.append((before, (before + 1).clamp(max=cells - 1)))
        weights.append((place - before).float()[:, None])
    (top, bottom), (left, right) = corners
    above = torch.lerp(level[:, top, left].T, level[:, top, right].T, weights[1])
    below = torch.lerp(level[:, bottom, left].T, level[:, bottom, right].T, weights[1])
    return torch.lerp(above, below, weights[0])
