"""Feature views of a part of an image, some rows at a time: features of all pixels are large."""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from pointcover.features.encoder_pyramid import PartLevel
from pointcover.features.gaussian import Part, whole_of
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import BlockName

BAND_PX: Final = 16
"""Rows of a band."""

SLAB: Final = 1 << 17
"""Pixels, about, for which a filter bank is computed at once."""


class RowBands:
    """The bands of a part of an image from top to bottom, each as heads of classifiers read them.

    Values are those of a view of the whole image, to rounding. Only those of the part are computed;
    for those of an encoder also the surroundings, so deep levels are nearly those of the whole
    image.
    """

    def __init__(self, features: PixelFeatures, images: Tensor, part: Part | None = None) -> None:
        """Keep one image, (1, bands, H, W) raw; nothing is computed yet."""
        self.features = features
        self.images = features.scale(images)
        self.height, self.width = images.shape[2:]
        self.rows, self.cols = part or whole_of(images)
        self._levels: list[PartLevel] | None = None
        self._statistics: Tensor | None = None
        columns = self.cols.stop - self.cols.start
        self._slab_px = max(BAND_PX, SLAB // columns // BAND_PX * BAND_PX)
        self._slab: tuple[int, Tensor] | None = None

    def __iter__(self) -> Iterator["RowBand"]:
        """Iterate over the bands."""
        for top in range(self.rows.start, self.rows.stop, BAND_PX):
            yield RowBand(self, top, min(top + BAND_PX, self.rows.stop))

    def filters(self, top: int, bottom: int) -> Tensor:
        """Return the filter bank of rows of one slab, computed for all of it."""
        bank = self.features.filter_bank
        assert bank is not None
        first = top - (top - self.rows.start) % self._slab_px
        if self._slab is None or self._slab[0] != first:
            self._slab = None  # before the next one is computed
            last = min(first + self._slab_px, self.rows.stop)
            begin, end = max(0, first - bank.margin_px), min(last + bank.margin_px, self.height)
            left = max(0, self.cols.start - bank.margin_px)
            right = min(self.cols.stop + bank.margin_px, self.width)
            part = (
                slice(first - begin, last - begin),
                slice(self.cols.start - left, self.cols.stop - left),
            )
            self._slab = first, bank(self.images[:, :, begin:end, left:right], part)
        return self._slab[1][:, :, top - first : bottom - first]

    def statistics(self, top: int, bottom: int) -> Tensor:
        """Return the local statistics of rows, computed for the whole part."""
        assert self.features.local_statistics is not None
        if self._statistics is None:
            part = self.rows, self.cols
            self._statistics = self.features.local_statistics(self.images, part)
        return self._statistics[:, :, top - self.rows.start : bottom - self.rows.start]

    def levels(self) -> list[PartLevel]:
        """Return the levels of the encoder at all scales, computed for the part."""
        if self._levels is None:
            encoder = self.features.encoder
            assert encoder is not None
            images = self.images[:, self.features.encoder_bands]
            self._levels = encoder.encode(images, (self.rows, self.cols))
        return self._levels


class RowBand:
    """Some rows of an image; a FeatureView of them."""

    def __init__(self, bands: RowBands, top: int, bottom: int) -> None:
        """Keep the rows; nothing is computed yet."""
        self.rows = slice(top, bottom)
        self._bands = bands
        self._dense: dict[BlockName, Tensor] = {}

    def dense(self, block: BlockName) -> Tensor:
        """Compute a block for all pixels: (1, features, rows, columns)."""
        if block not in self._dense:
            bands, rows = self._bands, (self.rows.start, self.rows.stop)
            if block == "filter_bank":
                # Trees compare features with thresholds: no lower precision than in the fit.
                with torch.autocast(bands.images.device.type, enabled=False):
                    self._dense[block] = bands.filters(*rows)
            elif block == "local_statistics":
                self._dense[block] = bands.statistics(*rows)
            else:
                self._dense[block] = self._sample_all(bands.levels())
        return self._dense[block]

    def project(self, block: BlockName, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply a linear layer to a block: weight (K, features), bias (K,) → (1, K, rows, cols)."""
        if block != "encoder" or block in self._dense:
            features = self.dense(block).float()
            return torch.einsum("kf,nfhw->nkhw", weight, features) + bias.view(1, -1, 1, 1)
        logits = bias.float().view(1, -1, 1, 1)
        first = 0
        for level in self._bands.levels():
            count = level.values.shape[1]
            columns = weight[:, first : first + count].float()
            first += count
            logits = logits + self._sample(level, columns)
        return logits

    def _sample_all(self, levels: list[PartLevel]) -> Tensor:
        count = sum(level.values.shape[1] for level in levels)
        columns = self._bands.cols.stop - self._bands.cols.start
        sampled = torch.empty(1, count, self.rows.stop - self.rows.start, columns)
        place = 0
        for level in levels:  # not joined at the end: that takes twice as much
            values = self._sample(level)
            sampled[:, place : place + values.shape[1]] = values
            place += values.shape[1]
        return sampled

    def _sample(self, level: PartLevel, weight: Tensor | None = None) -> Tensor:
        with torch.autocast(level.values.device.type, enabled=False):
            return level.sample(self.rows, self._bands.cols, weight)
