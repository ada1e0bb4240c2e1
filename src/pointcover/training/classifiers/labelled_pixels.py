"""The features of labelled pixels, collected window by window."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import IGNORE_INDEX, Image, Mask
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import BlockName

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

_DRAW_SEED: Final = 2
"""Beside the seed of the experiment, so that nothing else is drawn by this generator."""


@dataclass(frozen=True)
class LabelledWindow:
    """A window of an image with sparse labels.

    What is read around the window should reach as far as the features' margin.
    """

    image: Image
    """(bands, H, W), raw: the window and what is read around it."""
    mask: Mask
    """(H, W) class ids, IGNORE_INDEX where unlabelled and around the window."""
    group: str
    """A tile, an image or a region: validation leaves out whole groups."""
    clicks: Mask | None = None
    """(H, W) the point labels alone; None where nothing depends on which labels are."""
    own: tuple[slice, slice] = (slice(None), slice(None))
    """Rows and columns without what is read around the window."""
    unlabelled: Flags | None = None
    """(H, W) the unlabelled pixels that are collected, too; None for none."""


@dataclass(frozen=True)
class UnlabelledPixels:
    """Pixels without a label, from which a classifier can learn, too."""

    features: dict[BlockName, Floats]
    """(P, features) by the name of the block."""
    probabilities: Floats | None = None
    """(P, classes) of classifiers that were fitted on labels alone; None before these."""

    def __len__(self) -> int:
        """Return the number of pixels."""
        return len(next(iter(self.features.values())))

    def part(self, chosen: npt.NDArray[np.integer] | slice) -> "UnlabelledPixels":
        """Return some of the pixels."""
        features = {block: values[chosen] for block, values in self.features.items()}
        known = self.probabilities
        return UnlabelledPixels(features, None if known is None else known[chosen])


@dataclass(frozen=True)
class LabelledPixels:
    """What a classifier is fitted on."""

    features: dict[BlockName, Floats]
    """(P, features) by the name of the block."""
    classes: npt.NDArray[np.int64]
    """(P,) class ids."""
    groups: npt.NDArray[np.int64]
    """(P,) numbers of the groups."""
    is_clicked: npt.NDArray[np.bool_]
    """(P,) whether a label is a point label; all are where nothing depends on it."""
    weights: npt.NDArray[np.float64]
    """(P,) of the labels in the fit, 1 each at first."""
    unlabelled: UnlabelledPixels | None = None
    """Drawn from the same windows, where a classifier learns from them."""

    def table(self, blocks: Iterable[BlockName]) -> Floats:
        """Return the features of these blocks side by side, (P, features)."""
        return np.concatenate([self.features[block] for block in blocks], axis=1)


class Thinning:
    """Leaves at most so many labelled pixels, drawn at random among those of all tiles."""

    def __init__(self, counts: Sequence[int], most: int, generator: np.random.Generator) -> None:
        """Draw.

        Args:
            counts: labelled pixels of each tile.
            most: labelled pixels that are left.
            generator: draws, where there are more than that.
        """
        total = sum(counts)
        chosen = np.ones(total, bool)
        if total > most:
            chosen[:] = False
            chosen[generator.choice(total, most, replace=False, shuffle=False)] = True
        self._flags = np.split(chosen, np.cumsum(counts)[:-1])

    def thin(self, place: int, mask: Mask) -> Mask:
        """Return the mask of a tile, with IGNORE_INDEX at the labels that are left out."""
        flags = self._flags[place]
        if flags.all():
            return mask
        thinned = mask.copy()
        labelled = mask != IGNORE_INDEX
        thinned[labelled] = np.where(flags, mask[labelled], IGNORE_INDEX)
        return thinned


class UnlabelledDraw:
    """Draws unlabelled pixels at random, as many in each window."""

    def __init__(self, windows: int, pixels: int, seed: int) -> None:
        """Prepare the draw.

        Args:
            windows: that are read.
            pixels: that are drawn from all windows together; 0 for none.
            seed: of the experiment.
        """
        self._each = -(-pixels // max(windows, 1))
        self._generator = np.random.default_rng((seed, _DRAW_SEED))

    def mark(self, window: LabelledWindow) -> LabelledWindow:
        """Return a window with the pixels that were drawn from it.

        Only pixels with data and without a label in the window's mask are drawn, and none around
        the window. A window with fewer of them gives all it has.
        """
        if not self._each:
            return window
        there = np.zeros(window.mask.shape, bool)
        there[window.own] = True
        there &= (window.mask == IGNORE_INDEX) & window.image.any(axis=0)
        places = np.flatnonzero(there)
        most = min(self._each, len(places))
        there[:] = False
        there.flat[self._generator.choice(places, most, replace=False)] = True
        return replace(window, unlabelled=there)


def collect(features: PixelFeatures, windows: Iterable[LabelledWindow]) -> LabelledPixels:
    """Compute the features of labelled pixels, and of those unlabelled ones that windows name.

    One image's features are held at a time.

    Windows that follow each other with the very same image are computed at once.

    Raises:
        ValueError: there is no labelled pixel.
    """
    parts: dict[BlockName, list[Floats]] = {block: [] for block in features.settings.blocks}
    more: dict[BlockName, list[Floats]] = {block: [] for block in features.settings.blocks}
    classes, groups, are_clicked = [], [], []
    names: dict[str, int] = {}
    for image, alike in _by_image(windows):
        places = [np.nonzero(window.mask != IGNORE_INDEX) for window in alike]
        others = [np.nonzero(one.unlabelled) for one in alike if one.unlabelled is not None]
        rows, cols = (np.concatenate(axis) for axis in zip(*places, *others, strict=True))
        if not len(rows):
            continue
        labelled = sum(len(place[0]) for place in places)
        for block, values in _features_at(features, image, rows, cols).items():
            parts[block].append(values[:labelled])
            if others:
                more[block].append(values[labelled:])
        for window, place in zip(alike, places, strict=True):
            classes.append(window.mask[place].astype(np.int64))
            number = names.setdefault(window.group, len(names))
            groups.append(np.full(len(place[0]), number, np.int64))
            clicks = window.mask if window.clicks is None else window.clicks
            are_clicked.append(clicks[place] != IGNORE_INDEX)
    if not sum(map(len, classes)):
        raise ValueError("got no labelled pixel to fit on, wanted some: annotate the train split")
    return LabelledPixels(
        _join(parts),
        np.concatenate(classes),
        np.concatenate(groups),
        np.concatenate(are_clicked),
        np.ones(sum(map(len, classes))),
        _unlabelled_of(more),
    )


def _unlabelled_of(parts: dict[BlockName, list[Floats]]) -> UnlabelledPixels | None:
    """Join the unlabelled pixels of all windows; None if there are none."""
    if not any(len(values) for values in next(iter(parts.values()))):
        return None
    return UnlabelledPixels(_join(parts))


def _join(parts: dict[BlockName, list[Floats]]) -> dict[BlockName, Floats]:
    return {block: np.concatenate(values) for block, values in parts.items()}


def _by_image(
    windows: Iterable[LabelledWindow],
) -> Iterator[tuple[Image, list[LabelledWindow]]]:
    """Group windows that follow each other with the very same image."""
    alike: list[LabelledWindow] = []
    for window in windows:
        if alike and window.image is not alike[0].image:
            yield alike[0].image, alike
            alike = []
        alike.append(window)
    if alike:
        yield alike[0].image, alike


def _features_at(
    features: PixelFeatures,
    image: Image,
    rows: npt.NDArray[np.intp],
    cols: npt.NDArray[np.intp],
) -> dict[BlockName, Floats]:
    """Compute features at pixels, on the device of the features' buffers."""
    device = next(features.buffers(), torch.empty(0)).device
    found = features.at(
        torch.from_numpy(np.ascontiguousarray(image)).to(device),
        torch.from_numpy(rows).to(device),
        torch.from_numpy(cols).to(device),
    )
    return {block: values.float().cpu().numpy() for block, values in found.items()}


class PixelTable:
    """The features of pixels, as heads read those of an image of one row."""

    def __init__(self, pixels: LabelledPixels | UnlabelledPixels) -> None:
        """Take the pixels."""
        self._features = pixels.features

    def dense(self, block: BlockName) -> Tensor:
        """Return a block: (1, features, 1, P)."""
        return torch.from_numpy(self._features[block].T[None, :, None].copy())

    def project(self, block: BlockName, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply a linear layer: weight (K, features), bias (K,) to (1, K, 1, P)."""
        values = torch.from_numpy(self._features[block])
        return (values @ weight.T + bias).T[None, :, None]
