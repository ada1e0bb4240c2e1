"""Simulated annotators: which pixels of a densely labelled tile somebody would have clicked.

A sampler says where in a tile somebody clicks, a unit how often. All samplers keep the same
promises: clicks lie on labelled pixels, no pixel is clicked twice, and budgets nest: from
generators in the same state, the clicks of a smaller budget are the first of every larger one.
Only then does the annotator err, and errors do not break the nesting. To add a sampler, write one
function and add one line to `SAMPLERS`.
"""

import hashlib
from typing import Final

import numpy as np

from pointcover.annotation.samplers.annotator import Annotator, Sampler
from pointcover.annotation.samplers.budgets import UNITS, tile_budgets
from pointcover.annotation.samplers.drawing import (
    classes_in,
    dense,
    equal,
    make_generator,
    positive,
    proportional,
    uniform,
)
from pointcover.annotation.samplers.noise import add_noise
from pointcover.annotation.samplers.scribbles import scribbles
from pointcover.annotation.samplers.spacing import boundary, interior, spread
from pointcover.labels import IGNORE_INDEX, Mask

__all__ = ["SAMPLERS", "UNITS", "Annotator", "click", "tile_budgets", "tile_generator"]

SAMPLERS: Final[dict[str, Sampler]] = {
    "uniform": uniform,
    "equal": equal,
    "proportional": proportional,
    "spread": spread,
    "boundary": boundary,
    "interior": interior,
    "scribbles": scribbles,
    "positive": positive,
    "dense": dense,
}


def tile_generator(seed: int, tile_id: str) -> np.random.Generator:
    """Make the generator of one tile from the seed and the tile's id alone.

    The order in which tiles are annotated, other tiles, the machine and Python's own hash seed
    have no say, so a tile keeps its clicks when the tile set around it grows.

    Args:
        seed: the seed of the experiment, any integer.
        tile_id: the tile's id.
    """
    digest = hashlib.blake2b(f"{seed}:{tile_id}".encode(), digest_size=16).digest()
    return make_generator(int.from_bytes(digest, "little"))


def click(mask: Mask, budget: int, annotator: Annotator, generator: np.random.Generator) -> Mask:
    """Click on a tile as the annotator would, errors included.

    With the unit `per_class` the sampler works within one class at a time, with a generator for
    each: the clicks of a class depend on that class's pixels and on the generator, not on what the
    rest of the tile shows (but for `boundary`, which looks for other classes by its nature, and
    for a click that lands by error where a click of another class is).

    Where two clicks land on one pixel by error, the earlier one counts, so that errors do not
    break the nesting of budgets.

    Args:
        mask: dense mask, (H, W) uint8, IGNORE_INDEX where unlabelled.
        budget: what `tile_budgets` gives for this tile: clicks, or clicks per class with the unit
            `per_class`. A tile or class with fewer pixels to click gives them all.
        annotator: the settings; `points` has no say here.
        generator: advanced by the draws; its sequence of spawned ones is advanced too if the
            annotator errs.

    Returns:
        Sparse mask, (H, W) uint8, IGNORE_INDEX where not clicked.

    Raises:
        ValueError: the mask is not (H, W) uint8, the budget is below 0, or the annotator's sampler
            or unit is unknown.
    """
    _check(mask, budget, annotator)
    sampler = SAMPLERS[annotator.sampler]
    pixels = mask.ravel()
    clicks = np.full(pixels.shape, IGNORE_INDEX, np.uint8)
    if annotator.unit == "per_class":
        root = int(generator.integers(2**63))
        groups = [
            (np.flatnonzero(pixels == class_id), make_generator(root, class_id))
            for class_id in classes_in(pixels)
        ]
    else:
        groups = [(np.flatnonzero(pixels != IGNORE_INDEX), generator)]
    made = [(sampler(mask, where, budget, annotator, one), one) for where, one in groups]
    if not (annotator.errs and made):
        for one, _ in made:
            clicks[one.pixels] = pixels[one.pixels]
        return clicks.reshape(mask.shape)

    # Spawned, not drawn: errors leave the clicks that are meant as they would be without.
    noisy = [add_noise(one, mask, annotator, its.spawn(1)[0]) for one, its in made]
    landed = np.concatenate([where for where, _ in noisy])
    ids = np.concatenate([ids for _, ids in noisy])
    # The first click of every class comes before the second of any, as in smaller budgets.
    order = np.argsort(np.concatenate([one.numbers for one, _ in made]), kind="stable")
    landed, first = np.unique(landed[order], return_index=True)
    clicks[landed] = ids[order[first]]
    return clicks.reshape(mask.shape)


def _check(mask: Mask, budget: int, annotator: Annotator) -> None:
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(
            f"got a mask of shape {mask.shape} and type {mask.dtype}, wanted (H, W) uint8: pass "
            f"one tile's class ids, with {IGNORE_INDEX} where unlabelled"
        )
    if budget < 0:
        raise ValueError(f"got budget={budget}, wanted 0 or more: pass what tile_budgets gives")
    for key, value, known in (
        ("sampler", annotator.sampler, SAMPLERS),
        ("unit", annotator.unit, UNITS),
    ):
        if value not in known:
            raise ValueError(f"got {key}={value!r}, wanted one of {', '.join(known)}")
