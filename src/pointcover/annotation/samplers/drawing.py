"""Drawing pixels by chance: the samplers that ask how many of which class, not where."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pointcover.annotation.samplers.annotator import Annotator, Clicks, Pixels
from pointcover.labels import IGNORE_INDEX, Mask


def uniform(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click on pixels drawn uniformly, wherever they fall.

    An annotator who names the pixels that the computer points at, like the random baseline of
    PixelPick (Shin et al. 2021). It gives nothing about the tile away and label shares follow the
    land, so rare classes go short: with 50 clicks, 53 % of the LandCover.ai tiles that hold
    buildings get no click on one (measured).
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
    of_class = candidates[mask.ravel()[candidates] == annotator.positive_class]
    return uniform(mask, of_class, budget, annotator, generator)


def equal(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click on as many pixels of each class as of any other, drawn uniformly within the class.

    Classes take turns, in an order that is drawn; one that has no pixel left is passed over, so
    that its share goes to those that have. With fewer clicks than classes, chance decides which
    classes get one.
    """
    return _share_out(mask, candidates, budget, generator, by_area=False)


def proportional(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click on each class by its area but at least once, drawn uniformly within the class.

    Stratified sampling as it is done to assess maps: shares follow the land, and a rare class is
    not missed. One click for each class, the largest first; the others by Sainte-Laguë's divisors
    (a class of area a that has n clicks is served by the greatest a / (2n + 1)), which gives no
    class fewer when the budget grows (Balinski and Young, Fair Representation, 1982).
    """
    return _share_out(mask, candidates, budget, generator, by_area=True)


def dense(
    mask: Mask,
    candidates: Pixels,
    budget: int,
    annotator: Annotator,
    generator: np.random.Generator,
) -> Clicks:
    """Click on every pixel: the upper bound that sparse labels are measured against.

    The budget has no say here.
    """
    return Clicks.single(candidates)


def make_generator(*entropy: int) -> np.random.Generator:
    """Make a generator of whole numbers of any size."""
    # PCG64 by name: what default_rng() is may change with NumPy, and the clicks with it.
    return np.random.Generator(np.random.PCG64(entropy))


def classes_in(pixels: Mask) -> Iterator[int]:
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


def draw_ranks(size: int, count: int, generator: np.random.Generator) -> Pixels:
    """Draw `count` of `range(size)` uniformly without replacement, in order; at most all.

    These are the first steps of one Fisher-Yates shuffle (Durstenfeld, CACM 1964): step i swaps
    entry i with the entry at a target drawn from i … size - 1. A larger count goes on where a
    smaller one stopped: that is why budgets nest. No table of all entries is kept, so the cost
    follows the count; and no step waits for another, so it is a sort, not a loop (a sixth of the
    loop's time where the count is 70 % of a 512² tile).
    """
    count = min(count, size)
    steps = np.arange(count)
    targets = steps + (generator.random(count) * (size - steps)).astype(np.intp)
    swaps = np.concatenate(([-count], np.sort(targets * count + steps)))

    def find_last_swap(places: Pixels) -> Pixels:
        """For each step, the last step before it with that target, -1 if none."""
        found = swaps[np.searchsorted(swaps, places * count + steps) - 1]
        return np.where(found // count == places, found % count, -1)

    # What step i finds at its own place i: i itself, or what an earlier step found at its place
    # and moved there, and so on back; every round doubles how far back a step has looked.
    earlier = find_last_swap(steps)
    own = np.where(earlier < 0, steps, earlier)
    while not np.array_equal(own, further := own[own]):
        own = further
    earlier = find_last_swap(targets)
    return np.where(earlier < 0, targets, own[earlier])


def _share_out(
    mask: Mask, candidates: Pixels, budget: int, generator: np.random.Generator, *, by_area: bool
) -> Clicks:
    """Share the budget out to the classes, click after click, and draw within each class.

    Every class has a generator of its own, so that its clicks are a matter of how many it gets.
    """
    ids = mask.ravel()[candidates]
    class_ids = list(classes_in(ids))
    pixels = [candidates[ids == class_id] for class_id in class_ids]
    sizes = np.array([len(of_class) for of_class in pixels], np.intp)
    root = int(generator.integers(2**63))
    generators = [make_generator(root, class_id) for class_id in class_ids]
    lots = np.array([one.random() for one in generators])
    # All clicks that any class could get: the class, and how many the class has before.
    kind = np.repeat(np.arange(sizes.size), np.minimum(sizes, budget))
    before = _count_up(np.minimum(sizes, budget))
    turn: npt.NDArray[np.float64] = before.astype(np.float64)
    if by_area:
        # Equal fractions are equal as floats, others differ, up to areas of 2^25 pixels.
        turn = np.where(before == 0, -sizes[kind], (2 * before + 1) / sizes[kind])
    order = np.lexsort((lots[kind], turn))[:budget]
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
