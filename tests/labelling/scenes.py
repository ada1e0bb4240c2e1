"""A small image of three colours, and a project on it."""

from pathlib import Path

import numpy as np
from rasterio.transform import Affine

from pointcover.labelling.project import Project
from pointcover.labelling.settings import ClassSettings
from tests.imagery import PLACE, write_raster

CLASSES = (
    ClassSettings(name="meadow", colour="#7CB342"),
    ClassSettings(name="water", colour="#1E88E5"),
    ClassSettings(name="road", colour="#616161"),
)
COLOURS = ((110, 160, 70), (40, 80, 160), (130, 130, 130))
QUICK = {"encoder": False, "block_px": 64, "trees": 12, "debounce_ms": 0, "score_block_px": 32}
"""Settings with which tests take milliseconds."""


def draw_truth(size: int = 192) -> np.ndarray:
    """Return ids of three upright stripes."""
    return np.repeat(np.arange(size) * 3 // size, size).reshape(size, size).T.astype(np.uint8)


def write_scene(path: Path, size: int = 192, seed: int = 0, **options: object) -> Path:
    noise = np.random.default_rng(seed).normal(0, 8, (3, size, size))
    image = np.array(COLOURS)[draw_truth(size)].transpose(2, 0, 1) + noise
    return write_raster(path, image.clip(0, 255).astype(np.uint8), **options)


def open_scene(folder: Path, images: int = 2, **options: object) -> Project:
    """Open a project of some scenes beside each other with three classes."""
    paths = [
        write_scene(
            folder / "images" / f"{name}.tif",
            seed=seed,
            **({"transform": PLACE @ Affine.translation(1000 * seed, 0)} | options),
        )
        for seed, name in enumerate("abcdef"[:images])
    ]
    project = Project(folder / "project", paths, "anna")
    project.set_classes(CLASSES, {})
    project.set_settings(QUICK)
    return project


POINTS = tuple(
    (x + 5, y, name)
    for x, name in ((20, "meadow"), (90, "water"), (160, "road"))
    for y in (10, 60, 110, 170)
)
"""Some of each class."""
