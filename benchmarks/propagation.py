"""Time and quality of label propagation on one 512 px tile.

Run it with ``OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/propagation.py``
(about a minute). Each figure is the best of several runs, in milliseconds of one core; trust the
ratios, both sides are timed in the same run.

The simple ways are, for linking, what published code does: a Python loop over the set that
``query_pairs`` returns, with one line drawn for each pair; for random walkers, scikit-image's on a
tile of half the size, solved to the same tolerance.

The second table propagates uniform clicks on the synthetic dataset's first orthophoto with the
settings of params.yaml: the percentage of the other pixels that is labelled (coverage), and the
percentage of those labels that is correct (purity).
"""
# ruff: noqa: T201

from functools import partial

import numpy as np
from clicks import (
    CLASSES,
    PARAMS,
    SIZE,
    best_ms,
    click_on,
    make_mask,
    make_settings,
    print_header,
    report,
)
from scipy.spatial import cKDTree
from skimage.segmentation import random_walker

from pointcover.annotation.propagation import PROPAGATORS, propagate
from pointcover.annotation.propagation.base import ClickedTile
from pointcover.config.params import load_params
from pointcover.datasets.synthetic.landscape import draw_orthophoto
from pointcover.labels import IGNORE_INDEX, Image, Mask

BUDGETS = (50, 200, 500)


def link_simply(clicks: Mask, distance_px: float) -> Mask:
    """Link pair by pair in Python."""
    labels = clicks.copy()
    for class_id in np.unique(clicks[clicks != IGNORE_INDEX]):
        coordinates = np.argwhere(clicks == class_id)
        for first, second in cKDTree(coordinates).query_pairs(distance_px):
            (row, col), (end_row, end_col) = coordinates[first], coordinates[second]
            steps = max(abs(end_row - row), abs(end_col - col)) + 1
            rows = np.linspace(row, end_row, steps).round().astype(int)
            cols = np.linspace(col, end_col, steps).round().astype(int)
            for r, c in zip(rows, cols, strict=True):
                if labels[r, c] == IGNORE_INDEX:
                    labels[r, c] = class_id
    return labels


def walk_simply(clicks: Mask, image: Image, min_probability: float) -> Mask:
    """Let scikit-image's walkers walk at half resolution."""
    half = image[:, ::2, ::2].transpose(1, 2, 0).astype(np.float32) / 255
    seeds = clicks.reshape(SIZE // 2, 2, SIZE // 2, 2).min(axis=(1, 3))
    labels = np.where(seeds == IGNORE_INDEX, 0, seeds.astype(np.int32) + 1)
    probability = random_walker(
        half,
        labels,
        beta=1000,
        mode="cg_j",
        tol=1e-3,
        return_full_prob=True,
        channel_axis=-1,
        prob_tol=np.inf,
    )
    class_ids = np.unique(seeds[seeds != IGNORE_INDEX])
    sure = probability.max(axis=0) >= min_probability
    labels = np.where(sure, class_ids[probability.argmax(axis=0)], np.uint8(IGNORE_INDEX))
    return labels.repeat(2, axis=0).repeat(2, axis=1)


def main() -> None:
    """Print the table."""
    generator = np.random.default_rng(0)
    uniform, per_class = (make_settings("uniform", unit) for unit in ("per_tile", "per_class"))
    mask = make_mask(generator)
    print_header(mask)
    image, dense = draw_orthophoto(SIZE, np.random.default_rng([0, 1]))
    valid = np.ones(dense.shape, bool)
    annotate = load_params(PARAMS).annotate
    for points, distance_px in ((100, 30), (500, 20)):
        clicks = click_on(mask, points, per_class, generator)
        simple = best_ms(lambda k=clicks, d=distance_px: link_simply(k, d), 2)  # type: ignore[misc]
        tile = ClickedTile(clicks, image, valid, CLASSES)
        links = annotate.link.model_copy(update={"distance_px": distance_px})
        ours = best_ms(partial(propagate, tile, "link", links), 30)
        report(f"link {points} per class up to {distance_px} px", simple, ours)
    clicks = click_on(dense, 200, uniform, generator)
    tile = ClickedTile(clicks, image, valid, CLASSES)
    report(
        "random walkers, 200 clicks",
        best_ms(lambda: walk_simply(clicks, image, 0.8), 3),
        best_ms(partial(propagate, tile, "random_walker", annotate.random_walker), 5),
    )

    print(f"\n{'ms, coverage %, purity %':24}" + "".join(f"{n:>13} clicks" for n in BUDGETS))
    for name in PROPAGATORS:
        figures = ""
        for points in BUDGETS:
            clicks = click_on(dense, points, uniform, np.random.default_rng(0))
            tile = ClickedTile(clicks, image, valid, CLASSES)
            spread = partial(propagate, tile, name, getattr(annotate, name, None))
            mask = spread().mask
            added = (mask != IGNORE_INDEX) & (clicks == IGNORE_INDEX)
            right = (mask == dense)[added].mean() if added.any() else np.nan
            figures += f"{best_ms(spread, 5):8.1f}{100 * added.mean():6.1f}{100 * right:6.1f}"
        print(f"{name:24}{figures}")


if __name__ == "__main__":
    main()
