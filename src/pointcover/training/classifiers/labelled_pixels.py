"""The features of labelled pixels, collected window by window."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

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
    confidence: npt.NDArray[np.uint8] | None = None
    """(H, W) how sure each label is, in 1/255; None where all are."""


@dataclass(frozen=True)
class LabelledPixels:
    """What a classifier is fitted on."""

    features: dict[BlockName, Floats]
    """(P, features) by the name of the block."""
    classes: npt.NDArray[np.int64]
    """(P,) class ids."""
    groups: npt.NDArray[np.int64]
    """(P,) numbers of the groups."""
    weights: npt.NDArray[np.float64]
    """(P,) how much each label counts."""

    def table(self, blocks: Iterable[BlockName]) -> Floats:
        """Return the features of these blocks side by side, (P, features)."""
        return np.concatenate([self.features[block] for block in blocks], axis=1)


def choose_pixels(
    windows: Iterable[LabelledWindow], most: int, generator: np.random.Generator
) -> list[LabelledWindow]:
    """Keep at most so many labelled pixels, drawn at random among those of all windows.

    Args:
        windows: are read once; those that are left without a label are left out.
        most: labelled pixels.
        generator: draws, where there are more than that.
    """
    kept = [window for window in windows if (window.mask != IGNORE_INDEX).any()]
    counts = [int((window.mask != IGNORE_INDEX).sum()) for window in kept]
    total = sum(counts)
    if total <= most:
        return kept
    is_chosen = np.zeros(total, bool)
    is_chosen[generator.choice(total, most, replace=False, shuffle=False)] = True
    chosen = []
    for window, flags in zip(kept, np.split(is_chosen, np.cumsum(counts)[:-1]), strict=True):
        if flags.any():
            mask = window.mask.copy()
            mask[mask != IGNORE_INDEX] = np.where(flags, mask[mask != IGNORE_INDEX], IGNORE_INDEX)
            chosen.append(LabelledWindow(window.image, mask, window.group, window.confidence))
    return chosen


def collect(features: PixelFeatures, windows: Iterable[LabelledWindow]) -> LabelledPixels:
    """Compute the features of the labelled pixels, holding one window's features at a time.

    Raises:
        ValueError: there is no labelled pixel.
    """
    parts: dict[BlockName, list[Floats]] = {block: [] for block in features.settings.blocks}
    classes, groups, weights = [], [], []
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
        sure = window.confidence
        weights.append(np.ones(len(rows)) if sure is None else sure[rows, cols] / 255)
    if not classes:
        raise ValueError("got no labelled pixel to fit on, wanted some: annotate the train split")
    return LabelledPixels(
        {block: np.concatenate(values) for block, values in parts.items()},
        np.concatenate(classes),
        np.concatenate(groups),
        np.concatenate(weights),
    )
