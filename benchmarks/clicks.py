"""What clicking costs on one 512² tile, the simple way beside ours.

Run it with ``PYTHONPATH=src python benchmarks/clicks.py`` (about a minute). Each figure is the best
of several runs, in milliseconds; trust the ratios, both sides are timed in the same run. Then the
time of each sampler, and how far apart its clicks lie compared with uniform ones.

The simple way is what published code does: ``np.argwhere`` and ``choice`` class by class
(``Generator.choice``, which is faster than the old ``np.random.choice``).
"""
# ruff: noqa: T201

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from pointcover.annotation.click import click
from pointcover.annotation.samplers import SAMPLERS
from pointcover.annotation.settings import AnnotateSettings
from pointcover.config.params import load_params
from pointcover.labels import IGNORE_INDEX, ClassTable, Mask

SIZE = 512
FRACTIONS = (0.58, 0.02, 0.33, 0.05, 0.02)
"""About those of LandCover.ai: background, building, woodland, water, road."""

CLASSES = ClassTable(
    tuple(f"class {number}" for number in range(len(FRACTIONS))),
    tuple((0, 0, number) for number in range(len(FRACTIONS))),
)
PARAMS = Path(__file__).parents[1] / "params.yaml"


def make_mask(generator: np.random.Generator) -> Mask:
    """Draw a dense mask of smooth areas, (512, 512) uint8, of about FRACTIONS."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    # Rare classes last, in smaller areas, so that none is painted over.
    for class_id in sorted(range(1, len(FRACTIONS)), key=lambda class_id: -FRACTIONS[class_id]):
        sigma = 40 * FRACTIONS[class_id] ** 0.5 + 2
        field = gaussian_filter(generator.normal(size=mask.shape), sigma)
        mask[field > np.quantile(field, 1 - FRACTIONS[class_id])] = class_id
    return mask


def draw_simply(mask: Mask, points: int, generator: np.random.Generator) -> Mask:
    """Draw `points` clicks per class by argwhere and choice."""
    clicks = np.full_like(mask, IGNORE_INDEX)
    for class_id in np.unique(mask):
        coordinates = np.argwhere(mask == class_id)
        size = min(points, len(coordinates))
        chosen = generator.choice(coordinates, size, replace=False)
        clicks[chosen[:, 0], chosen[:, 1]] = class_id
    return clicks


def make_settings(sampler: str, unit: str) -> AnnotateSettings:
    """Make the settings of an annotator without errors."""
    chosen = {"sampler": sampler, "unit": unit, "positive_class": "class 0"}
    return load_params(PARAMS).annotate.model_copy(update=chosen)


def click_on(
    mask: Mask, budget: int, settings: AnnotateSettings, generator: np.random.Generator
) -> Mask:
    """Click on a tile of the benchmark's classes."""
    return click(mask, budget, settings, CLASSES, generator)


def neighbour_distance(clicks: Mask) -> float:
    """Return the mean distance from a click to the nearest other, in pixels."""
    points = np.argwhere(clicks != IGNORE_INDEX)
    return float(cKDTree(points).query(points, 2)[0][:, 1].mean())


def best_ms(function: Callable[[], object], repeats: int) -> float:
    """Time a call: the best of `repeats`, in milliseconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()  # not the clock on the wall: other programs run, too
        function()
        best = min(best, time.process_time() - start)
    return 1e3 * best


def print_header(mask: Mask) -> None:
    """Print what the tile holds and the head of the table that `report` fills."""
    counts = ", ".join(f"{fraction:.1%}" for fraction in np.bincount(mask.ravel()) / mask.size)
    print(f"one {SIZE}² tile, class fractions {counts}\n")
    print(f"{'ms':34}{'simple':>10}{'ours':>10}{'ratio':>8}")


def report(name: str, simple: float, ours: float) -> None:
    """Print one row of the table, in ms."""
    print(f"{name:34}{simple:10.2f}{ours:10.2f}{simple / ours:7.0f}x")


def main() -> None:
    """Print the table."""
    generator = np.random.default_rng(0)
    mask = make_mask(generator)
    print_header(mask)
    who = make_settings("uniform", "per_class")
    for points in (100, 500):
        simple = best_ms(lambda p=points: draw_simply(mask, p, generator), 30)  # type: ignore[misc]
        ours = best_ms(lambda p=points: click_on(mask, p, who, generator), 100)  # type: ignore[misc]
        report(f"draw {points} clicks per class", simple, ours)

    budgets = (20, 100, 500)
    print(f"\n{'clicks a tile, ms':26}{'':8}" + "".join(f"{budget:10}" for budget in budgets))
    for name in SAMPLERS:
        who = make_settings(name, "per_tile")
        times = [
            best_ms(lambda b=b, who=who: click_on(mask, b, who, generator), 8) for b in budgets
        ]  # type: ignore[misc]
        print(f"{name:34}" + "".join(f"{ms:10.2f}" for ms in times))

    print("\ndistance to the nearest click, against uniform")
    distances = {
        name: [
            np.mean([neighbour_distance(click_on(mask, b, who, generator)) for _ in range(8)])
            for b in budgets
        ]
        for name, who in ((name, make_settings(name, "per_tile")) for name in ("uniform", "spread"))
    }
    ratios = np.divide(distances["spread"], distances["uniform"])
    print(f"{'spread':34}" + "".join(f"{ratio:9.2f}x" for ratio in ratios))


if __name__ == "__main__":
    main()
