"""Find ground that images of different splits share: scores on it are of what was trained on."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.datasets.card import DatasetCard, Pair
from pointcover.datasets.inventory import Inventory
from pointcover.labels import SPLITS, Split
from pointcover.raster.grids import project
from pointcover.raster.raster_io import CRS, RasterInfo, RasterReader, ResampledReader, Window
from pointcover.text import shorten

TOLERANCE: Final = 0.01
"""Largest fraction of a split's ground that may lie on another's: mosaics may have seams."""

POINTS: Final = 64
"""Rows and columns of the points at which the ground of an image is compared."""

VALID_PX: Final = 512
"""Longest side of the masks that say where images have data."""

Points = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(eq=False)
class Footprint:
    """Where an image lies, and where in it there is data."""

    name: str
    grid: RasterInfo
    path: Path
    bands: Sequence[int]
    """That are read."""

    @cached_property
    def valid(self) -> Flags:
        """Where the image has data: (h, w) of the whole image, of any size."""
        try:
            return _read_valid(self.path, self.bands)
        except (ValueError, OSError):  # reported with all others when images are cut
            return np.ones((1, 1), bool)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least x and y, greatest x and y, in the CRS of the image."""
        height, width = self.grid.height, self.grid.width
        corners = [self.grid.transform @ place for place in product((0, width), (0, height))]
        return (*np.min(corners, axis=0).tolist(), *np.max(corners, axis=0).tolist())

    def points(self) -> Points:
        """Return (n, 2) x and y of points with data, spread evenly over the image."""
        rows, cols = (
            (np.arange(count) + 0.5) * (side / count)
            for side in (self.grid.height, self.grid.width)
            for count in (min(side, POINTS),)
        )
        col, row = (each.ravel() for each in np.meshgrid(cols, rows))
        some = self._has_data(col, row)
        return np.stack(self.grid.transform @ (col[some], row[some]), axis=1)

    def covers(self, points: Points) -> Flags:
        """Return (n,) bool: whether the image has data at (n, 2) points in its CRS."""
        col, row = ~self.grid.transform @ (points[:, 0], points[:, 1])
        return self._has_data(col, row)

    def _has_data(self, col: npt.NDArray[np.float64], row: npt.NDArray[np.float64]) -> Flags:
        height, width = self.valid.shape
        down = np.floor(row * (height / self.grid.height)).astype(np.int64)
        across = np.floor(col * (width / self.grid.width)).astype(np.int64)
        inside: Flags = (down >= 0) & (down < height) & (across >= 0) & (across < width)
        inside[inside] = self.valid[down[inside], across[inside]]
        return inside


class Ground:
    """The images of a split, found by where they lie."""

    def __init__(self, footprints: Sequence[Footprint]) -> None:
        """Index the images by CRS."""
        self._by_crs: dict[CRS, list[Footprint]] = {}
        for footprint in footprints:
            assert footprint.grid.crs is not None
            self._by_crs.setdefault(footprint.grid.crs, []).append(footprint)
        self._bounds = {
            crs: np.array([one.bounds for one in some]) for crs, some in self._by_crs.items()
        }

    def cover(self, footprint: Footprint) -> tuple[float, list[tuple[float, str]]]:
        """Return the fraction of an image that others cover, and that of each of them by name."""
        covered, parts = np.zeros(0, bool), []
        for crs, bounds in self._bounds.items():
            west, south, east, north = footprint.bounds
            corners = np.array([(x, y) for x in (west, east) for y in (south, north)])
            there = _to_crs(corners, footprint.grid.crs, crs)
            if not np.isfinite(there).all():
                continue
            meets = (bounds[:, :2] < there.max(axis=0)) & (bounds[:, 2:] > there.min(axis=0))
            for number in np.flatnonzero(meets.all(axis=1)).tolist():
                other = self._by_crs[crs][number]
                points = _to_crs(footprint.points(), footprint.grid.crs, crs)
                here = other.covers(points)
                covered = here | (covered if len(covered) else False)
                if here.any():
                    parts.append((float(here.mean()), f"{footprint.name} on {other.name}"))
        return float(covered.mean()) if len(covered) else 0.0, parts


def _to_crs(points: Points, source: CRS | None, target: CRS) -> Points:
    """Return (n, 2) points in another CRS; not finite where they have no place there."""
    if source is None or source == target or not len(points):
        return points
    return np.asarray(project(points.tolist(), source, target), np.float64)


def check_overlaps(dataset: Inventory, splits: Mapping[str, Split]) -> None:
    """Check that images of different splits do not show the same ground.

    Images without a CRS or a transform are not compared, nor those whose tiles a list divides.

    Args:
        dataset: its pairs.
        splits: by region.

    Raises:
        ValueError: more than TOLERANCE of a split's ground lies on that of another.
    """
    if dataset.card.may_overlap:
        return
    prints: dict[Split, list[Footprint]] = {split: [] for split in SPLITS}
    for pair in dataset.pairs:
        split = splits.get(pair.region)
        footprint = _read_footprint(dataset.folder, pair, dataset.card) if split else None
        if split and footprint:
            prints[split].append(footprint)
    faults = [
        fault
        for first, second in combinations(SPLITS, 2)
        for fault in _compare(prints[second], prints[first], second, first)
    ]
    if faults:
        raise ValueError(
            "\n  - ".join(
                [
                    "images of different splits show the same ground, so scores would be of what "
                    "was trained on or chosen by. Make one region of images that overlap (`region` "
                    "in the card: folder, or a regular expression), choose other regions in "
                    "`split`, or, if it is meant, set `may_overlap: true` in the card, or in one "
                    "of your own that `extends` it:",
                    *faults,
                ]
            )
        )


def _compare(
    scored: Sequence[Footprint], seen: Sequence[Footprint], split: Split, other: Split
) -> list[str]:
    """Return a line on the ground of one split that is also another's, if there is too much."""
    ground, shared, total = Ground(seen), 0.0, 0
    lines: list[tuple[float, str]] = []
    for footprint in scored:
        pixels = footprint.grid.height * footprint.grid.width
        part, parts = ground.cover(footprint)
        shared, total = shared + part * pixels, total + pixels
        lines += parts
    if not total or shared <= TOLERANCE * total:
        return []
    lines.sort(key=lambda line: -line[0])
    named = shorten([f"{name} {100 * part:.0f} %" for part, name in lines], 5)
    return [f"{100 * shared / total:.0f} % of {split} lies on {other} ({named})"]


def _read_footprint(folder: Path, pair: Pair, card: DatasetCard) -> Footprint | None:
    """Read where an image lies; None where it does not say so, or cannot be read.

    Files that cannot be read are reported when they are cut.
    """
    paths = [folder / name for name in (pair.image, pair.mask) if name]
    try:
        for path in paths:
            with closing(RasterReader(path)) as reader:
                grid = reader.info()
                if grid.crs is not None and grid.is_georeferenced:
                    return Footprint(pair.image, grid, paths[0], card.bands)
    except (ValueError, OSError):
        return None
    return None


def _read_valid(path: Path, named: Sequence[int]) -> Flags:
    """Return where an image has data, decimated to VALID_PX."""
    with closing(RasterReader(path)) as reader:
        info = reader.info()
        bands = [band for band in named if band <= info.bands] or None
        if reader.is_all_valid(bands) and reader.missing_blocks(bands) is None:
            return np.ones((1, 1), bool)
    shrink = max(1, max(info.height, info.width) / VALID_PX)
    height, width = (max(1, round(side / shrink)) for side in (info.height, info.width))
    with closing(ResampledReader(path, height, width, bands=bands or (), averaged=False)) as small:
        return small.read_valid(Window(0, 0, width, height), bands)
