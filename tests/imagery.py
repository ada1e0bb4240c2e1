"""Tiny datasets with the CRS of the real ones, and a temporary project to run stages in."""

import hashlib
import importlib.util
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin

from pointcover.config.params import Params, load_params
from pointcover.datasets.card import DatasetCard
from pointcover.raster.raster_io import open_dataset
from pointcover.tiling.settings import TileSettings

ROOT = Path(__file__).parents[1]
CRS = "EPSG:2180"
PLACE = from_origin(500_000, 600_000, 0.25, 0.25)

CARD = {
    "title": "three classes",
    "images": "images/*.tif",
    "masks": "masks/*.tif",
    "classes": [
        {"name": "land", "colour": "#8429F6"},
        {"name": "water", "colour": "#E2A929"},
        {"name": "road", "colour": "#3C1098"},
    ],
    "ignore": [255],
    "split": {"val": ["images/b.tif"], "test": ["images/c.tif"]},
    "may_overlap": True,  # all images of these tests lie at one place
}


def make_card(**changes: Any) -> DatasetCard:
    return DatasetCard.model_validate(CARD | changes)


def write_raster(path: Path, values: npt.NDArray[Any], **options: Any) -> Path:
    """Write (bands, H, W) or (H, W) values as a plain GeoTIFF (or what `driver` says)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if values.ndim == 2:
        values = values[np.newaxis]
    palette = options.pop("palette", None)
    bands, height, width = values.shape
    profile = {
        "driver": "GTiff",
        "dtype": values.dtype,
        "count": bands,
        "height": height,
        "width": width,
        "crs": CRS,
        "transform": PLACE,
    }
    with open_dataset(path, "w", **(profile | options)) as file:
        file.write(values)
        if palette:
            file.write_colormap(1, palette)
    return path


def place_by_points(path: Path, values: npt.NDArray[Any]) -> Path:
    """Write a GeoTIFF that ground control points alone place, as scans often are."""
    _, height, width = values.shape
    corners = [(0, 0), (0, width), (height, 0), (height, width)]
    points = [GroundControlPoint(row, col, *(PLACE @ (col, row))) for row, col in corners]
    return write_raster(path, values, transform=None, gcps=points)


def draw_image(height: int, width: int, seed: int = 0, bands: int = 3) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 256, (bands, height, width), np.uint8)


def draw_mask(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise of the three classes, with some unlabelled pixels."""
    ids = np.array([0, 0, 1, 1, 1, 2, 255], np.uint8)
    return np.random.default_rng(seed + 1000).choice(ids, (height, width))


def write_pair(folder: Path, name: str, height: int, width: int, seed: int = 0) -> None:
    write_raster(folder / "images" / f"{name}.tif", draw_image(height, width, seed))
    write_raster(folder / "masks" / f"{name}.tif", draw_mask(height, width, seed))


def write_dataset(
    folder: Path, names: Sequence[str] = "abc", height: int = 100, width: int = 130
) -> None:
    """Write images/<name>.tif and masks/<name>.tif, of noise that depends on the name alone."""
    for name in names:
        write_pair(folder, name, height, width, seed=sum(name.encode()))


def change(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Set values by dotted key: {"tile.size_px": 64}."""
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place[section]
        place[last] = value
    return values


def tile_settings(size_px: int, downsample: int = 1) -> TileSettings:
    """Return settings of tiling, of sizes that params.yaml need not allow."""
    return TileSettings.model_construct(size_px=size_px, downsample=downsample, split_seed=0)


def load_stage(name: str) -> ModuleType:
    """Import stages/<name>.py, which is no package."""
    return _load_stage(name)


@cache
def _load_stage(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"stage_{name}", ROOT / "stages" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NETWORK = {
    "annotate.propagator": "link",
    "train.model": "unet",
    "train.encoder": "tu-regnetx_002",
    "train.weights": "none",
    "train.class_weighting": "none",
}
"""Changes of params.yaml with which a small network is trained on linked clicks."""


class Project:
    """A folder with params.yaml, sources/ and a tiny dataset, and the stages that run in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "sources" / "mine"
        shutil.copy(ROOT / "params.yaml", root)
        (root / "sources").mkdir()
        # Tests change modules in this process, and three tiny orthophotos need no second one.
        self.set(
            NETWORK
            | {
                "dataset": "sources/mine.yaml",
                "tile.size_px": 64,
                "tile.downsample": 1,
                "train.crop_px": 64,
                "train.lr": 0.001,
                "machine.workers": 1,
            }
        )
        self.write_card()

    def set(self, changes: dict[str, Any]) -> None:
        path = self.root / "params.yaml"
        values = change(yaml.load(path.read_text(), yaml.CSafeLoader), changes)
        path.write_text(yaml.dump(values, Dumper=yaml.CSafeDumper))

    def params(self) -> Params:
        return load_params(Path("params.yaml"))

    def write_card(self, path: str = "sources/mine.yaml", **changes: Any) -> None:
        (self.root / path).write_text(yaml.safe_dump(CARD | changes))

    def run(self, *stages: str) -> None:
        """Run stages in this process, as `run_stage` would."""
        for stage in stages:
            getattr(load_stage(stage), stage)(self.params())

    def run_once(self, *stages: str) -> None:
        """Run stages, or take what they left in another test with the same settings and data."""
        said = (self.root / "params.yaml").read_bytes() + repr(
            read_tree(self.root / "sources")
        ).encode()
        kept = (
            self.root.parent
            / f"kept-{hashlib.sha256(said + repr(stages).encode()).hexdigest()[:16]}"
        )
        places = ("data", "metrics")
        if kept.exists():
            for place in places:
                shutil.copytree(kept / place, self.root / place)
            return
        self.run(*stages)
        for place in places:
            shutil.copytree(self.root / place, kept / place)

    def refusal(self, *stages: str) -> str:
        """Run stages, the last of which must refuse to, and give its message."""
        self.run(*stages[:-1])
        before = self.outputs()
        with pytest.raises((ValueError, OSError)) as caught:
            self.run(stages[-1])
        assert self.outputs() == before
        return str(caught.value)

    def process(
        self, stage: str, max_file_bytes: int | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a stage as DVC does; no file may grow beyond `max_file_bytes`, as on a full disk."""
        limit: Callable[[], None] | None = None
        if max_file_bytes is not None:
            size = (max_file_bytes, max_file_bytes)
            limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, size)
        return subprocess.run(
            [sys.executable, str(ROOT / "stages" / f"{stage}.py")],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment,
            preexec_fn=limit,
        )

    def outputs(self) -> dict[str, bytes]:
        """Everything below data and metrics, by path: an attempt that fails must not change it."""
        return read_tree(self.root / "data") | read_tree(self.root / "metrics")


def read_tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder.parent).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }
