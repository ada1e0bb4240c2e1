"""The features of labelled pixels, collected window by window."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import IGNORE_INDEX, Image, Mask
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import BlockName

Floats = npt.NDArray[np.float32]


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


def collect(features: PixelFeatures, windows: Iterable[LabelledWindow]) -> LabelledPixels:
    """Compute the features of the labelled pixels, holding one window's features at a time.

    Raises:
        ValueError: there is no labelled pixel.
    """
    parts: dict[BlockName, list[Floats]] = {block: [] for block in features.settings.blocks}
    classes, groups, are_clicked = [], [], []
    names: dict[str, int] = {}
    for window in windows:
        rows, cols = np.nonzero(window.mask != IGNORE_INDEX)
        if not len(rows):
            continue
        image = torch.from_numpy(np.ascontiguousarray(window.image))
        found = features.at(image, torch.from_numpy(rows), torch.from_numpy(cols))
        for block, values in found.items():
            parts[block].append(values.numpy())
        classes.append(window.mask[rows, cols].astype(np.int64))
        number = names.setdefault(window.group, len(names))
        groups.append(np.full(len(rows), number, np.int64))
        clicks = window.mask if window.clicks is None else window.clicks
        are_clicked.append(clicks[rows, cols] != IGNORE_INDEX)
    if not classes:
        raise ValueError("got no labelled pixel to fit on, wanted some: annotate the train split")
    return LabelledPixels(
        {block: np.concatenate(values) for block, values in parts.items()},
        np.concatenate(classes),
        np.concatenate(groups),
        np.concatenate(are_clicked),
        np.ones(sum(map(len, classes))),
    )


class PixelTable:
    """The features of labelled pixels, as heads read those of an image of one row."""

    def __init__(self, pixels: LabelledPixels) -> None:
        """Take the pixels."""
        self._features = pixels.features

    def dense(self, block: BlockName) -> Tensor:
        """Return a block: (1, features, 1, P)."""
        return torch.from_numpy(self._features[block].T[None, :, None].copy())

    def project(self, block: BlockName, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply a linear layer: weight (K, features), bias (K,) to (1, K, 1, P)."""
        values = torch.from_numpy(self._features[block])
        return (values @ weight.T + bias).T[None, :, None]
