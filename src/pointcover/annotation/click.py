"""Simulated clicks on one tile: sampled from its dense mask, errors of the annotator included."""

import hashlib

import numpy as np

from pointcover.annotation.samplers import SAMPLERS
from pointcover.annotation.samplers.annotator import Annotator
from pointcover.annotation.samplers.drawing import classes_in, make_generator
from pointcover.annotation.samplers.noise import add_noise
from pointcover.annotation.settings import AnnotateSettings
from pointcover.labels import IGNORE_INDEX, ClassTable, Mask


def tile_generator(seed: int, tile_id: str) -> np.random.Generator:
    """Make the generator of one tile from the seed and the tile's id alone.

    The order in which tiles are annotated, other tiles, the machine and Python's own hash seed
    change nothing, so a tile keeps its clicks when tiles are added to the tile set.

    Args:
        seed: the seed of the experiment, any integer.
        tile_id: the tile's id.
    """
    digest = hashlib.blake2b(f"{seed}:{tile_id}".encode(), digest_size=16).digest()
    return make_generator(int.from_bytes(digest, "little"))


def click(
    mask: Mask,
    budget: int,
    settings: AnnotateSettings,
    classes: ClassTable,
    generator: np.random.Generator,
) -> Mask:
    """Click on a tile as the simulated annotator of the settings does.

    With the unit `per_class` the sampler works within one class at a time, with a generator for
    each: the clicks of a class depend on that class's pixels and on the generator, not on the rest
    of the tile (except with `boundary`, which looks for other classes by definition, and where a
    click lands by error on a pixel with a click of another class).

    Where two clicks land on one pixel by error, the earlier one counts, so that budgets nest with
    errors too.

    Args:
        mask: dense mask, (H, W) uint8, IGNORE_INDEX where unlabelled.
        budget: of this tile, from a unit of `UNITS`: clicks, or clicks per class with the unit
            `per_class`. In a tile or class with fewer pixels all of them are clicked.
        settings: the sampler, its settings and the annotator's errors.
        classes: of the dataset.
        generator: advanced by the draws; its sequence of spawned ones is advanced too if the
            annotator errs.

    Returns:
        Sparse mask, (H, W) uint8, IGNORE_INDEX where not clicked.

    Raises:
        ValueError: the mask is not (H, W) uint8, the budget is below 0, or the settings name a
            class that the dataset does not have.
    """
    _check(mask, budget)
    annotator, sampler = Annotator(settings, classes), SAMPLERS[settings.sampler]
    pixels = mask.ravel()
    clicks = np.full(pixels.shape, IGNORE_INDEX, np.uint8)
    if settings.unit == "per_class":
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

    # Spawned, not drawn: errors do not change where clicks are meant to be.
    noisy = [add_noise(one, mask, annotator, its.spawn(1)[0]) for one, its in made]
    landed = np.concatenate([where for where, _ in noisy])
    ids = np.concatenate([ids for _, ids in noisy])
    # The first click of every class comes before the second of any, as in smaller budgets.
    order = np.argsort(np.concatenate([one.numbers for one, _ in made]), kind="stable")
    landed, first = np.unique(landed[order], return_index=True)
    clicks[landed] = ids[order[first]]
    return clicks.reshape(mask.shape)


def _check(mask: Mask, budget: int) -> None:
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(
            f"got a mask of shape {mask.shape} and type {mask.dtype}, wanted (H, W) uint8: pass "
            f"one tile's class ids, with {IGNORE_INDEX} where unlabelled"
        )
    if budget < 0:
        raise ValueError(f"got budget={budget}, wanted 0 or more: pass what a unit returns")
