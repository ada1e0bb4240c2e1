"""Samplers that draw pixels at random: overall, or by class."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pointcover.annotation.classes import class_id
from pointcover.annotation.samplers.annotator import Annotator, Clicks, Pixels
from pointcover.labels import IGNORE_INDEX, Mask


def uniform(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click on pixels drawn uniformly from all candidates.

    The annotator labels pixels that the computer chooses, like the random baseline of PixelPick
    (Shin et al. 2021). The expected number of labels of a class is proportional to its area, so
    rare classes get few: with 50 clicks, 53 % of the LandCover.ai tiles with buildings get no
    click on one (measured).
    """
    return Clicks.single(candidates[draw_ranks(candidates.size, budget, generator)])


def positive(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click uniformly on pixels of the one class `positive_class`, and on no others.

    The setting of positive-unlabelled learning. A tile without the class gets no click.
    """
    positive_id = class_id(annotator.settings.positive_class, annotator.classes, "positive_class")
    of_class = candidates[mask.ravel()[candidates] == positive_id]
    return uniform(mask, of_class, budget, annotator, generator)


def equal(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click on the same number of pixels of each class, drawn uniformly within the class.

    The classes get their clicks in rounds, in a random order; a class without pixels left is
    skipped, so that the others get its clicks. With fewer clicks than classes, the random order
    decides which classes get one.
    """
    return _stratify(mask, candidates, budget, generator, by_area=False)


def proportional(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click on each class by its area but at least once, drawn uniformly within the class.

    Proportional stratified sampling, as in accuracy assessments of maps, without missing a rare
    class. One click for each class, the largest first; each further click by Sainte-Laguë's method
    (to the class with the greatest a / (2n + 1), of area a and with n clicks), in which no class
    gets fewer clicks when the budget increases (Balinski and Young, Fair Representation, 1982).
    """
    return _stratify(mask, candidates, budget, generator, by_area=True)


def dense(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click on every pixel, whatever the budget: the dense reference for sparse labels."""
    return Clicks.single(candidates)


def make_generator(*entropy: int) -> np.random.Generator:
    """Make a generator from integers of any size."""
    # PCG64 by name: what default_rng() returns may change with NumPy, and the clicks with it.
    return np.random.Generator(np.random.PCG64(entropy))


def classes_in(pixels: Mask) -> Iterator[int]:
    """Yield the class ids in (N,) uint8 pixels in ascending order.

    Subtraction wraps around, so the minimum of `pixels - first` is the distance to the next id at
    or above `first`: two fast passes per class in the tile, an eighth of np.unique's time.
    """
    first = 0
    while pixels.size and first < IGNORE_INDEX:
        found = first + int((pixels - np.uint8(first)).min())
        if found >= IGNORE_INDEX:
            return
        yield found
        first = found + 1


def draw_ranks(size: int, count: int, generator: np.random.Generator) -> Pixels:
    """Draw `count` of `range(size)` uniformly without replacement, in order; at most all.

    These are the first steps of one Fisher-Yates shuffle (Durstenfeld, CACM 1964): step i swaps
    entry i with an entry drawn from i … size - 1. A larger count continues where a smaller one
    stopped, so budgets nest. Only entries that were moved are stored.
    """
    count = min(count, size)
    steps = np.arange(count)
    targets = steps + (generator.random(count) * (size - steps)).astype(np.intp)
    ranks = np.empty(count, np.intp)
    moved: dict[int, int] = {}
    for step, target in enumerate(targets.tolist()):
        ranks[step] = moved.get(target, target)
        moved[target] = moved.pop(step, step)
    return ranks


def _stratify(
    mask: Mask, candidates: Pixels, budget: int, generator: np.random.Generator, *, by_area: bool
) -> Clicks:
    """Divide the budget among the classes, click by click, and draw uniformly within each.

    Every class has a generator of its own, so that its clicks depend on their number alone.
    """
    ids = mask.ravel()[candidates]
    class_ids = list(classes_in(ids))
    pixels = [candidates[ids == one] for one in class_ids]
    sizes = np.array([len(of_class) for of_class in pixels], np.intp)
    root = int(generator.integers(2**63))
    generators = [make_generator(root, one) for one in class_ids]
    ties = np.array([one.random() for one in generators])
    # All clicks that any class could get: its class, and the number of the class's clicks before.
    kind = np.repeat(np.arange(sizes.size), np.minimum(sizes, budget))
    before = _count_up(np.minimum(sizes, budget))
    rank: npt.NDArray[np.float64] = before.astype(np.float64)
    if by_area:
        # Equal fractions are equal as floats, others differ, up to areas of 2^25 pixels.
        rank = np.where(before == 0, -sizes[kind], (2 * before + 1) / sizes[kind])
    order = np.lexsort((ties[kind], rank))[:budget]
    counts = np.bincount(kind[order], minlength=sizes.size)
    drawn = [
        of_class[draw_ranks(of_class.size, count, one)]
        for of_class, count, one in zip(pixels, counts.tolist(), generators, strict=True)
    ]
    starts = np.cumsum(counts) - counts
    return Clicks.single(
        np.concatenate([*drawn, candidates[:0]])[starts[kind[order]] + before[order]]
    )


def _count_up(sizes: Pixels) -> Pixels:
    """Count 0, 1 … size - 1 for each size, one after the other."""
    starts = np.cumsum(sizes) - sizes
    return np.arange(sizes.sum()) - np.repeat(starts, sizes)
