"""Pseudo-labels: predictions of high probability become labels of the next round."""

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX, Mask


def label_confident(
    probabilities: npt.NDArray[np.floating],
    mask: Mask,
    threshold: float,
    top_fraction: float | None = None,
) -> Mask:
    """Add the predicted class where its probability is high enough; labels stay.

    Args:
        probabilities: (C, H, W) of a prediction; NaN where there is none.
        mask: (H, W) uint8, point labels and propagated ones.
        threshold: smallest probability of a pixel that is labelled, 0 to 1.
        top_fraction: largest fraction of the unlabelled pixels predicted as a class that are
            labelled, the most confident ones, above 0 and at most 1; None is all. It limits
            classes that are easy to tell.

    Returns:
        A new mask (H, W) uint8, IGNORE_INDEX where unlabelled.

    Raises:
        ValueError: shapes do not fit, or a setting is out of bounds.
    """
    if probabilities.shape[1:] != mask.shape:
        raise ValueError(
            f"probabilities are {probabilities.shape}, the mask {mask.shape}: pass those of one "
            "tile, classes first"
        )
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}: give 0 to 1")
    if top_fraction is not None and not 0 < top_fraction <= 1:
        raise ValueError(f"top_fraction is {top_fraction}: give one above 0 and at most 1, or None")
    predicted = probabilities.argmax(axis=0).astype(np.uint8).ravel()
    confidence = probabilities.max(axis=0).ravel()
    free = (mask == IGNORE_INDEX).ravel()
    chosen = free & (confidence >= threshold)
    if top_fraction is not None and top_fraction < 1:
        for class_id in range(len(probabilities)):
            places = np.flatnonzero(free & (predicted == class_id) & ~np.isnan(confidence))
            # Stable, so that ties are broken in the same way on every machine
            order = np.argsort(-confidence[places], kind="stable")
            chosen[places[order[int(top_fraction * len(places)) :]]] = False
    return np.where(chosen, predicted, mask.ravel()).reshape(mask.shape)
