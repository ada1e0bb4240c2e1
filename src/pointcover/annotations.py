"""Simulated annotators: which pixels of a densely labelled tile somebody would have clicked.

A sampler takes a dense mask, a label budget and a generator, and returns the sparse mask of the
clicks. All samplers keep the same promises: clicks lie on labelled pixels and carry their class,
no pixel is clicked twice, and budgets nest: from generators in the same state, the clicks of a
smaller budget are among those of every larger one. To add a sampler, write one function and add
one line to `SAMPLERS`.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX, Mask

Sampler = Callable[[Mask, int, np.random.Generator], Mask]


def tile_generator(seed: int, tile_id: str) -> np.random.Generator:
    """Make the generator of one tile from the seed and the tile's id alone.

    The order in which tiles are annotated, other tiles, the machine and Python's own hash seed
    have no say, so a tile keeps its clicks when the tile set around it grows.

    Args:
        seed: the seed of the experiment, any integer.
        tile_id: the tile's id.
    """
    digest = hashlib.blake2b(f"{seed}:{tile_id}".encode(), digest_size=16).digest()
    return _generator(int.from_bytes(digest, "little"))


def per_class(mask: Mask, points: int, generator: np.random.Generator) -> Mask:
    """Click on `points` pixels of every class in the tile, drawn uniformly within the class.

    "k points per class per tile" is how studies of land cover from points, on Potsdam and
    elsewhere, simulate their annotator. It is kinder than a real one: it tells which classes are
    in the tile, and it multiplies the label share of rare ones (on LandCover.ai tiles buildings
    by 10.3, roads by 11.6, measured), so that a model learns class shares that are not the land's.
    Compare `uniform`.

    The clicks of a class depend on that class's pixels and on the generator, not on what the
    rest of the tile shows.

    Args:
        mask: dense mask, (H, W) uint8, IGNORE_INDEX where unlabelled.
        points: label budget per class, 1 or more; a smaller class gives all its pixels.
        generator: advanced by one draw, however large the budget.

    Returns:
        Sparse mask, (H, W) uint8, IGNORE_INDEX where not clicked.

    Raises:
        ValueError: `points` is below 1, or the mask is not (H, W) uint8.
    """
    _check(mask, points)
    pixels = mask.ravel()
    clicks = np.full(pixels.shape, IGNORE_INDEX, np.uint8)
    root = int(generator.integers(2**63))
    for class_id in _classes_in(pixels):
        of_class = np.flatnonzero(pixels == class_id)
        clicks[of_class[_ranks(of_class.size, points, _generator(root, class_id))]] = class_id
    return clicks.reshape(mask.shape)


def uniform(mask: Mask, points: int, generator: np.random.Generator) -> Mask:
    """Click on `points` labelled pixels of the tile, wherever they fall.

    An annotator who names the pixels that the computer points at, like the random baseline of
    PixelPick (Shin et al. 2021). It gives nothing about the tile away and label shares follow the
    land, so rare classes go short: with 50 clicks, 53 % of the LandCover.ai tiles that hold
    buildings get no click on one (measured).

    Args:
        mask: dense mask, (H, W) uint8, IGNORE_INDEX where unlabelled.
        points: label budget of the tile, 1 or more; a tile with fewer labelled pixels gives all.
        generator: advanced by the draws.

    Returns:
        Sparse mask, (H, W) uint8, IGNORE_INDEX where not clicked.

    Raises:
        ValueError: `points` is below 1, or the mask is not (H, W) uint8.
    """
    _check(mask, points)
    pixels = mask.ravel()
    labelled = np.flatnonzero(pixels != IGNORE_INDEX)
    clicked = labelled[_ranks(labelled.size, points, generator)]
    clicks = np.full(pixels.shape, IGNORE_INDEX, np.uint8)
    clicks[clicked] = pixels[clicked]
    return clicks.reshape(mask.shape)


def dense(mask: Mask, points: int, generator: np.random.Generator) -> Mask:
    """Click on every labelled pixel: the upper bound that sparse labels are measured against.

    Args:
        mask: dense mask, (H, W) uint8, IGNORE_INDEX where unlabelled.
        points: has no say here, but is checked as everywhere.
        generator: not used.

    Returns:
        A copy of the mask, (H, W) uint8.

    Raises:
        ValueError: `points` is below 1, or the mask is not (H, W) uint8.
    """
    _check(mask, points)
    return mask.copy()


SAMPLERS: Final[dict[str, Sampler]] = {
    "per_class": per_class,
    "uniform": uniform,
    "dense": dense,
}


def _check(mask: Mask, points: int) -> None:
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(
            f"got a mask of shape {mask.shape} and type {mask.dtype}, wanted (H, W) uint8: pass "
            f"one tile's class ids, with {IGNORE_INDEX} where unlabelled"
        )
    if points < 1:
        raise ValueError(f"got points={points}, wanted 1 or more: give a label budget")


def _generator(*entropy: int) -> np.random.Generator:
    # PCG64 by name: what default_rng() is may change with NumPy, and the clicks with it.
    return np.random.Generator(np.random.PCG64(entropy))


def _classes_in(pixels: Mask) -> Iterator[int]:
    """Yield the class ids in (N,) uint8 pixels in rising order.

    Subtracting wraps around, so the least of `pixels - first` is the way to the next id at or
    above `first`: two fast passes per class in the tile, an eighth of np.unique's time.
    """
    first = 0
    while pixels.size and first < IGNORE_INDEX:
        class_id = first + int((pixels - np.uint8(first)).min())
        if class_id >= IGNORE_INDEX:
            return
        yield class_id
        first = class_id + 1


def _ranks(size: int, points: int, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """Draw `points` of `range(size)` uniformly without replacement; all of them if fewer.

    These are the first steps of one Fisher-Yates shuffle (Durstenfeld, CACM 1964). Step i draws
    from what is left after i steps, whatever the budget, so a larger budget goes on where a
    smaller one stopped: that is why budgets nest. Only entries that moved are stored, so the cost
    follows the budget, not the size.
    """
    if points >= size:
        return np.arange(size)
    steps = np.arange(points)
    targets = steps + (generator.random(points) * (size - steps)).astype(np.intp)
    moved: dict[int, int] = {}
    ranks = []
    for step, target in enumerate(targets.tolist()):
        ranks.append(moved.get(target, target))
        moved[target] = moved.get(step, step)
    return np.array(ranks, np.intp)
