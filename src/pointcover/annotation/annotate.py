"""Annotate a tile set: clicks, propagated labels, their sources and confidence."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from pointcover.annotation.click import click, tile_generator
from pointcover.annotation.inputs import ClickRasters, LabelInputs, check_labels
from pointcover.annotation.propagation import propagate, tell_sources
from pointcover.annotation.propagation.base import ClickedTile
from pointcover.annotation.rasters import CLICKS, CONFIDENCE, MASKS, SOURCES, open_writers
from pointcover.annotation.report import AnnotationReport
from pointcover.annotation.samplers import UNITS
from pointcover.annotation.settings import AnnotateSettings
from pointcover.labels import IGNORE_INDEX, SPLITS, Mask, count_pixels
from pointcover.raster.raster_io import RasterInfo, RasterReader
from pointcover.runtime.atomic_files import publish_csv
from pointcover.runtime.parallel import map_in_order
from pointcover.runtime.settings import MachineSettings
from pointcover.tileset.tiles import Tile, TileReader, TileSet, raster_path, write_index
from pointcover.vectors.rasterize import Placement, PlacementReport, place_annotations

LEFT_OUT: Final = "left_out.csv"
"""File that lists every real annotation that was left out, wholly or in part."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotation:
    """How a tile set is annotated."""

    tiles: Path
    """The folder of the tile set, absolute."""
    out: Path
    """The folder to write rasters below, absolute."""
    tile_set: TileSet
    settings: AnnotateSettings
    inputs: LabelInputs
    budgets: Mapping[str, int]
    """Label budgets of the simulated annotator, by tile id."""
    seed: int
    scored: Sequence[Tile] = ()
    """Tiles of the test split that are not annotated, since dense masks score them."""


@dataclass
class AnnotatedOrthophoto:
    """The labels of one orthophoto in one split."""

    tiles: list[Tile]
    """With their pixels counted in the sparse masks."""
    report: AnnotationReport
    placement: PlacementReport | None
    """Of the vector file's annotations."""


@dataclass
class AnnotatedTiles:
    """The labels of a tile set."""

    tiles: list[Tile]
    """With their pixels counted in the sparse masks."""
    reports: dict[str, AnnotationReport]
    """By split."""
    placement: PlacementReport | None
    """Of the vector file's annotations."""
    names: Sequence[str]
    """Of the classes."""

    def write(self, out: Path) -> None:
        """Write the index of the tiles, and the list of annotations that were left out.

        Raises:
            ValueError: no annotation labels a pixel, or no label lies on the train split.
        """
        if self.placement:
            self.placement.check()
            publish_csv(out / LEFT_OUT, ("feature", "reason"), self.placement.faults())
        check_labels(self.tiles)
        write_index(out / "index.csv", self.tiles, self.names)

    def summary(self) -> dict[str, Any]:
        """Return the counts by split, and those of the vector file's annotations, for JSON."""
        summary: dict[str, Any] = {split: one.summary() for split, one in self.reports.items()}
        if self.placement:
            summary["annotations"] = self.placement.summary()
        return summary

    def log(self, settings: AnnotateSettings) -> None:
        """Log the number of labels, and warn if they are all of one class."""
        if self.placement:
            logger.info("%s: %s", self.placement.path, self.placement.describe())
        for split, report in self.reports.items():
            counts = report.summary()
            logger.info(
                "%s: %d clicks in %d tiles, %d propagated pixels",
                split,
                counts["clicks"],
                counts["tiles"],
                counts["propagated_pixels"],
            )
        if settings.sampler == "positive":
            logger.warning(
                "only %r was clicked: a network trained on one class predicts it everywhere. Add "
                "clicks of other classes, or use these for scores of that class only",
                settings.positive_class,
            )


def budgets_of(settings: AnnotateSettings, points: int, tiles: Sequence[Tile]) -> dict[str, int]:
    """Return the label budget of every tile by its id, in clicks.

    Args:
        settings: of annotation.
        points: the label budget, in the unit of the settings.
        tiles: with their pixels counted in dense masks.
    """
    return UNITS[settings.unit](points, {tile.id: sum(tile.pixels) for tile in tiles})


def annotate_tiles(
    annotation: Annotation, tiles: Sequence[Tile], machine: MachineSettings
) -> AnnotatedTiles:
    """Annotate tiles, one orthophoto at a time, and write their rasters.

    Args:
        annotation: how.
        tiles: to annotate.
        machine: how many orthophotos are annotated at a time.
    """
    # Published lists may put tiles of one orthophoto into several splits; each raster is written
    # once.
    groups: dict[tuple[str, str], list[Tile]] = {}
    for tile in tiles:
        groups.setdefault((tile.split, tile.orthophoto), []).append(tile)
    names, vectors = annotation.tile_set.classes.names, annotation.inputs.vectors
    present = {tile.split for tile in tiles}
    annotated = AnnotatedTiles(
        tiles=[],
        reports={split: AnnotationReport(names) for split in SPLITS if split in present},
        placement=PlacementReport(vectors) if vectors else None,
        names=names,
    )
    for part in map_in_order(
        partial(annotate_orthophoto, annotation),
        list(groups.values()),
        machine,
        label="annotating",
        unit="orthophoto",
    ):
        annotated.tiles += part.tiles
        annotated.reports[part.tiles[0].split].include(part.report)
        if annotated.placement and part.placement:
            annotated.placement.include(part.placement)
    if annotated.placement:
        note_scored(annotation, annotation.scored, annotated.placement)
    return annotated


def note_scored(annotation: Annotation, tiles: Sequence[Tile], report: PlacementReport) -> None:
    """Note which features lie on orthophotos that are not annotated, but scored on dense masks.

    Args:
        annotation: how.
        tiles: of the test split.
        report: of the vector file's annotations.
    """
    for orthophoto, split in {(tile.orthophoto, tile.split): None for tile in tiles}:
        path = raster_path(annotation.tiles / "images", split, orthophoto)
        _, placed = _place(annotation, RasterReader(path).info(), orthophoto)
        if placed:
            report.scored |= placed.inside


def annotate_orthophoto(annotation: Annotation, tiles: Sequence[Tile]) -> AnnotatedOrthophoto:
    """Click on the tiles of one orthophoto in one split, propagate the clicks, and write rasters.

    The test split has real annotations only. They are not propagated, since the model is scored on
    them. Four rasters are written, below CLICKS, MASKS, SOURCES and CONFIDENCE.

    Args:
        annotation: how.
        tiles: of one orthophoto and split.

    Raises:
        FileNotFoundError: a raster of the tile set is missing.
        ValueError: it is damaged.
    """
    tile_set, (split, orthophoto) = annotation.tile_set, (tiles[0].split, tiles[0].orthophoto)
    images = TileReader(annotation.tiles / "images", tile_set.size_px, fill=0)
    dense_masks = TileReader(annotation.tiles / "masks", tile_set.size_px, fill=IGNORE_INDEX)
    grid = RasterReader(raster_path(annotation.tiles / "images", split, orthophoto)).info()
    placement, placed = _place(annotation, grid, orthophoto)
    given = ClickRasters(annotation.inputs.clicks, grid, tiles[0], tile_set)
    propagator, settings = annotation.settings.propagator, annotation.settings.of_propagator
    if split == "test":
        propagator, settings = "none", None
    paths = {
        kind: raster_path(annotation.out / kind, split, orthophoto)
        for kind in (CLICKS, MASKS, SOURCES, CONFIDENCE)
    }
    annotated = AnnotatedOrthophoto([], AnnotationReport(tile_set.classes.names), placed)
    with open_writers(paths, grid, tile_set.size_px, tile_set.classes) as writers:
        for tile in tiles:
            inside = (slice(0, tile.height), slice(0, tile.width))
            dense = np.ascontiguousarray(dense_masks.read(tile)[0][inside])
            image = np.ascontiguousarray(images.read(tile)[:, *inside])
            clicks = given.add_to(_simulate(annotation, tile, dense), tile)
            if placement:
                clicks = placement.burn(tile.extent, clicks)
            # The tile stage writes 0 in every band where an orthophoto has no data.
            valid = np.asarray(image.any(axis=0))
            clicked = ClickedTile(clicks, image, valid, tile_set.classes)
            propagated = propagate(clicked, propagator, settings)
            for kind, values in (
                (CLICKS, clicks),
                (MASKS, propagated.mask),
                (SOURCES, tell_sources(clicks, propagated.mask)),
                (CONFIDENCE, propagated.confidence),
            ):
                writers[kind].write(values[np.newaxis], tile.extent)
            annotated.report.add(dense, clicks, propagated.mask)
            pixels = count_pixels(propagated.mask, len(tile_set.classes))
            annotated.tiles.append(replace(tile, pixels=pixels))
    return annotated


def _simulate(annotation: Annotation, tile: Tile, dense: Mask) -> Mask:
    """Return the simulated clicks of a tile; none in the test split, or without an annotator."""
    if not annotation.inputs.simulates or tile.split == "test":
        return np.full(dense.shape, IGNORE_INDEX, np.uint8)
    return click(
        dense,
        annotation.budgets[tile.id],
        annotation.settings,
        annotation.tile_set.classes,
        tile_generator(annotation.seed, tile.id),
    )


def _place(
    annotation: Annotation, grid: RasterInfo, orthophoto: str
) -> tuple[Placement | None, PlacementReport | None]:
    """Place the vector file's annotations on an orthophoto; None where there is no such file."""
    vectors, all_touched = annotation.inputs.vectors, annotation.settings.vectors.all_touched
    if vectors is None:
        return None, None
    report = PlacementReport(vectors)
    placement = place_annotations(
        vectors, grid, report, orthophoto=orthophoto, all_touched=all_touched
    )
    return placement, report
