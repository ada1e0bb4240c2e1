"""Change: from two maps of the same land to a map of from-to classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.assessment.class_maps import CLASS_TAG, ClassMap, distinct_colour
from pointcover.assessment.tables import M2_PER_HA
from pointcover.labels import IGNORE_INDEX, ClassTable, Colour, Mask
from pointcover.maps.cog import COG_BLOCK_PX, CogLayer, check_cog_path, write_cog
from pointcover.maps.map_files import IMAGE_TAG, PIXEL_COUNTS
from pointcover.raster.grids import check_same_grid
from pointcover.raster.raster_io import GeoTiffProfile, Window, write_geotiff
from pointcover.runtime.atomic_files import publish_csv, publish_text
from pointcover.vectors.qgis_styles import style_classes

ARROW: Final = " to "
STRIP_ROWS: Final = 2 * COG_BLOCK_PX
HEADER: Final = ("class_id", "from", "to", "pixels", "area_ha", "basis")

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Change:
    """The from-to classes of two maps."""

    pairs: list[tuple[int, int]]
    """(from, to), in the order of the ids."""
    classes: ClassTable
    pixels: Ids
    """(P,)."""
    areas_m2: npt.NDArray[np.float64]
    """(P,)."""


def compare_maps(old: ClassMap, new: ClassMap, *, resample: bool = False) -> Change:
    """Count the from-to classes of two maps, window by window.

    Args:
        old: whose grid counts.
        new: on the same grid.
        resample: bring the new map to the grid of the old one, the nearest pixel each.

    Raises:
        ValueError: the grids differ and `resample` was not said, the maps have no pixel in common,
            or there are more than 255 from-to classes.
    """
    if not resample:
        _check_grids(old, new)
    shape = len(old.classes), len(new.classes)
    pixels, areas_m2 = np.zeros(shape, np.int64), np.zeros(shape)
    for window in old.windows():
        before, after = _read_both(old, new, window, resample)
        known = (before != IGNORE_INDEX) & (after != IGNORE_INDEX)
        joint = before[known].astype(np.int64) * shape[1] + after[known]
        rows = slice(int(window.row_off), int(window.row_off) + before.shape[0])
        weights = np.broadcast_to(old.row_m2[rows, np.newaxis], before.shape)[known]
        pixels += np.bincount(joint, minlength=pixels.size).reshape(shape)
        areas_m2 += np.bincount(joint, weights, minlength=pixels.size).reshape(shape)
    pairs = [(int(a), int(b)) for a, b in np.argwhere(pixels)]
    if not pairs:
        raise ValueError(
            f"{old.path} and {new.path} have no pixel in common where both have data: give two "
            f"maps of the same land"
        )
    if len(pairs) > IGNORE_INDEX:
        raise ValueError(
            f"{old.path} and {new.path} have {len(pairs)} from-to classes, at most {IGNORE_INDEX} "
            f"fit into a map: merge classes first"
        )
    chosen = tuple(np.array(pairs).T)
    return Change(pairs, _name_pairs(old, new, pairs), pixels[chosen], areas_m2[chosen])


def write_change(
    path: Path, old: ClassMap, new: ClassMap, change: Change, *, resample: bool = False
) -> None:
    """Write a map of from-to classes, its style, and a table.

    Args:
        path: the GeoTIFF to write; a .qml and a .csv lie beside it.
        old: as it was compared.
        new: as it was compared.
        change: of both.
        resample: as it was compared.

    Raises:
        OSError: the disk is full, or a file does not read back as written.
    """
    check_cog_path(path)
    ids = np.full((256, 256), IGNORE_INDEX, np.uint8)
    for number, (before, after) in enumerate(change.pairs):
        ids[before, after] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".change") as folder:
        strips = [
            _write_strip(Path(folder), old, new, (top, ids), resample)
            for top in range(0, old.info.height, STRIP_ROWS)
        ]
        names = {f"{CLASS_TAG}{number}": name for number, name in enumerate(change.classes.names)}
        write_cog(
            path,
            strips,
            old.info,
            CogLayer(
                bands=[1],
                band_names=["change"],
                overviews="mode",
                palette=dict(enumerate(change.classes.colours)),
                tags={IMAGE_TAG: f"{old.path.name}{ARROW}{new.path.name}", **names},
            ),
            IGNORE_INDEX,
        )
    publish_text(path.with_suffix(".qml"), style_classes(change.classes))
    publish_csv(path.with_suffix(".csv"), HEADER, _rows(old, new, change))


def _rows(old: ClassMap, new: ClassMap, change: Change) -> list[Sequence[object]]:
    return [
        (
            number,
            old.classes.names[before],
            new.classes.names[after],
            int(change.pixels[number]),
            round(float(change.areas_m2[number]) / M2_PER_HA, 6),
            PIXEL_COUNTS,
        )
        for number, (before, after) in enumerate(change.pairs)
    ]


def _check_grids(old: ClassMap, new: ClassMap) -> None:
    try:
        check_same_grid(old.info, new.info)
    except ValueError as error:
        said = str(error).replace("and its mask", "and").split(". ")[0]
        raise ValueError(
            f"{said}. Say --resample to bring the second map to the grid of the first"
        ) from None


def _read_both(old: ClassMap, new: ClassMap, window: Window, resample: bool) -> tuple[Mask, Mask]:
    before = old.read_ids(window)
    if resample:
        return before, new.read_onto(old.info, window)
    return before, new.read_ids(window)


def _write_strip(
    folder: Path,
    old: ClassMap,
    new: ClassMap,
    rows: tuple[int, npt.NDArray[np.uint8]],
    resample: bool,
) -> Path:
    """Write some rows of a change map; `rows` is the first of them, and the ids of pairs."""
    top, ids = rows
    height = min(STRIP_ROWS, old.info.height - top)
    path = folder / f"{top:08d}.tif"
    profile = GeoTiffProfile(
        height=height,
        width=old.info.width,
        bands=1,
        block_px=COG_BLOCK_PX,
        crs=old.info.crs,
        transform=old.info.transform,
        nodata=IGNORE_INDEX,
    )
    with write_geotiff(path, profile) as out:
        for left in range(0, old.info.width, STRIP_ROWS):
            width = min(STRIP_ROWS, old.info.width - left)
            before, after = _read_both(old, new, Window(left, top, width, height), resample)
            out.write(ids[before, after][np.newaxis], Window(left, 0, width, height))
    return path


def _name_pairs(old: ClassMap, new: ClassMap, pairs: Sequence[tuple[int, int]]) -> ClassTable:
    """Name from-to classes; what stays the same has a pale colour of its class."""
    names, colours = [], []
    free = (distinct_colour(number) for number in range(1, 10_000))
    for before, after in pairs:
        said = old.classes.names[before], new.classes.names[after]
        stays = said[0] == said[1]
        names.append(f"{said[0]} stays" if stays else ARROW.join(said))
        colour = _pale(old.classes.colours[before]) if stays else next(free)
        while colour in colours:
            colour = next(free)
        colours.append(colour)
    if len(names) == 1:  # a class table has two at least
        names.append("no other change")
        colours.append(next(one for one in free if one not in colours))
    return ClassTable(tuple(names), tuple(colours))


def _pale(colour: Colour) -> Colour:
    red, green, blue = (round(160 + 0.35 * value) for value in colour)
    return red, green, blue
