"""Annotating: one orthophoto's clicks, what grows from them, where labels are from, how sure."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pointcover.annotation.propagation import PROPAGATORS, NoSettings, Propagator, mark_sources
from pointcover.annotation.report import AnnotationReport
from pointcover.annotation.samplers import Annotator, click, tile_generator
from pointcover.labels import IGNORE_INDEX, ClassTable, count_pixels, count_values
from pointcover.raster.raster_io import RasterInfo, RasterReader, write_geotiff, write_mask
from pointcover.tileset.tiles import Tile, TileReader, raster_path
from pointcover.vectors.features import Annotations
from pointcover.vectors.rasterize import PlacementReport, place

CLICKS: Final = "clicks"
"""Rasters of the clicks alone: class ids, IGNORE_INDEX elsewhere."""

MASKS: Final = "masks"
"""Rasters of sparse masks: the clicks and what grew from them."""

SOURCES: Final = "sources"
"""Rasters of where labels are from: 0 none, 1 clicked, 2 grown."""

CONFIDENCE: Final = "confidence"
"""Rasters of how sure labels are, in 1/255: 0 where there is none, 255 at clicks."""


@dataclass(frozen=True)
class Annotation:
    """How a tile set is annotated."""

    tiles: Path
    """The folder of the tile set."""
    out: Path
    """The folder to write rasters below."""
    size_px: int
    classes: ClassTable
    annotator: Annotator | None
    """Who simulates clicks from dense masks; None where the annotations are all there is."""
    budgets: Mapping[str, int]
    """By tile id, as `tile_budgets` gives them."""
    vectors: Annotations | None
    """Real annotations; where a simulated click has another class, the real one counts."""
    given: Path | None
    """A folder of click rasters, as CLICKS is one, to be added to the simulated clicks."""
    all_touched: bool
    propagator: Propagator[Any]
    propagation: Any
    """The propagator's settings."""
    seed: int


def annotate_orthophoto(
    annotation: Annotation, tiles: Sequence[Tile]
) -> tuple[list[Tile], AnnotationReport, PlacementReport | None]:
    """Click on the tiles of one orthophoto in one split, and grow the clicks.

    Clicks of the test split, which only real annotations give, do not grow: they are scored on.

    Writes four rasters, below CLICKS, MASKS, SOURCES and CONFIDENCE.

    Args:
        annotation: how.
        tiles: of one orthophoto and split.

    Returns:
        The tiles with their pixels counted in the sparse masks, what the labels cost, and where
        the real annotations came to lie.

    Raises:
        FileNotFoundError: a raster of the tile set is missing.
        ValueError: it is damaged.
    """
    size_px, classes = annotation.size_px, annotation.classes
    images = TileReader(annotation.tiles / "images", size_px, fill=0)
    dense_masks = TileReader(annotation.tiles / "masks", size_px, fill=IGNORE_INDEX)
    split, orthophoto = tiles[0].split, tiles[0].orthophoto
    report = AnnotationReport(classes.names)
    annotated = []
    grid = RasterReader(raster_path(annotation.tiles / "images", split, orthophoto)).info()
    placement, places = None, None
    if annotation.vectors:
        places = PlacementReport(annotation.vectors)
        placement = place(
            annotation.vectors,
            grid,
            places,
            orthophoto=orthophoto,
            all_touched=annotation.all_touched,
        )
    given = _given_clicks(annotation, grid, split, orthophoto)
    with ExitStack() as stack:
        write = {
            kind: stack.enter_context(writer)
            for kind, writer in _writers(annotation, grid, split, orthophoto).items()
        }
        for tile in tiles:
            inside = (slice(0, tile.height), slice(0, tile.width))
            dense = np.ascontiguousarray(dense_masks.read(tile)[0][inside])
            image = np.ascontiguousarray(images.read(tile)[:, *inside])
            window = tile.extent
            clicks = np.full(dense.shape, IGNORE_INDEX, np.uint8)
            if annotation.annotator and split != "test":
                generator = tile_generator(annotation.seed, tile.id)
                clicks = click(dense, annotation.budgets[tile.id], annotation.annotator, generator)
            if given:
                before = given.read(tile)[0][inside]
                _check_ids(before, classes, given.folder)
                clicks = np.where(before != IGNORE_INDEX, before, clicks)
            if placement:
                real = placement.burn(window)
                clicks = np.where(real != IGNORE_INDEX, real, clicks)
            # The tile stage writes 0 in every band where an orthophoto has no data.
            valid = np.asarray(image.any(axis=0))
            if split == "test":
                grown = PROPAGATORS["none"](clicks, image, valid, NoSettings())
            else:
                grown = annotation.propagator(clicks, image, valid, annotation.propagation)
            for kind, values in (
                (CLICKS, clicks),
                (MASKS, grown.mask),
                (SOURCES, mark_sources(clicks, grown.mask)),
                (CONFIDENCE, grown.confidence),
            ):
                write[kind].write(values[np.newaxis], window)
            report.add(dense, clicks, grown.mask)
            annotated.append(replace(tile, pixels=count_pixels(grown.mask, len(classes))))
    return annotated, report, places


def _given_clicks(
    annotation: Annotation, grid: RasterInfo, split: str, orthophoto: str
) -> TileReader | None:
    """Return what reads the clicks that are there before; None where an orthophoto has none.

    Raises:
        ValueError: they lie on another grid.
    """
    if annotation.given is None:
        return None
    path = raster_path(annotation.given, split, orthophoto)
    if not path.exists():
        return None
    found = RasterReader(path).info()
    if (found.height, found.width, found.bands) != (grid.height, grid.width, 1):
        raise ValueError(
            f"{path} has {found.bands} band(s) of {found.height} × {found.width} px, wanted one of "
            f"{grid.height} × {grid.width}: clicks lie on the pixels of the tile stage's images "
            f"(see tile.downsample), so make them from data/tiles/images"
        )
    return TileReader(annotation.given, annotation.size_px, IGNORE_INDEX)


def _check_ids(clicks: npt.NDArray[np.uint8], classes: ClassTable, folder: Path) -> None:
    (found,) = np.nonzero(count_values(clicks))
    strange = found[(found >= len(classes)) & (found != IGNORE_INDEX)]
    if len(strange):
        raise ValueError(
            f"{folder} holds the class id {strange[0]}, wanted 0 to {len(classes) - 1}, or "
            f"{IGNORE_INDEX} where nobody clicked: {', '.join(classes.names)} are the classes"
        )


def _writers(
    annotation: Annotation, grid: RasterInfo, split: str, orthophoto: str
) -> dict[str, Any]:
    """Return a writer for each kind of raster, on the grid of the orthophoto."""
    mask = partial(write_mask, like=grid, block_px=annotation.size_px, classes=annotation.classes)
    number = partial(
        write_geotiff,
        height=grid.height,
        width=grid.width,
        bands=1,
        crs=grid.crs,
        block_px=annotation.size_px,
        transform=grid.transform,
        nodata=0,
    )
    paths = {
        kind: raster_path(annotation.out / kind, split, orthophoto)
        for kind in (CLICKS, MASKS, SOURCES, CONFIDENCE)
    }
    return {
        CLICKS: mask(paths[CLICKS]),
        MASKS: mask(paths[MASKS]),
        SOURCES: number(paths[SOURCES], band_names=("source",)),
        CONFIDENCE: number(paths[CONFIDENCE], band_names=("confidence",)),
    }
