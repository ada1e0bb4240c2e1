"""Labels on images, without the pipeline's tiles."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointcover.image_labels.source import LabelSource, LabelTile
from pointcover.labels import IGNORE_INDEX, ClassTable, Image
from pointcover.raster.raster_io import EIGHT_BIT, RasterReader, ResampledReader, Window
from pointcover.text import shorten
from pointcover.tileset.source_images import SourceImage, SourceImages
from pointcover.tileset.tiles import begin_around
from pointcover.training.classifiers.labelled_pixels import LabelledWindow
from pointcover.vectors.features import Annotations
from pointcover.vectors.rasterize import PlacementReport, place_annotations


@dataclass(frozen=True)
class ImageReading:
    """How images are divided and read."""

    tile_px: int
    downsample: int
    bands: tuple[int, ...] | None = None
    """Band numbers from 1; None for the first three that are no alpha bands."""
    value_range: tuple[float, float] | None = None
    """Values that become 0 and 255; None for images of 8 bits."""


@dataclass(frozen=True)
class _Image:
    reader: RasterReader
    bands: tuple[int, ...]
    value_range: tuple[float, float]


@dataclass(frozen=True)
class LabelledImages:
    """Images that were opened, on which labels may lie."""

    images: Sequence[_Image]
    reading: ImageReading

    @classmethod
    def open(cls, paths: Sequence[Path], reading: ImageReading) -> "LabelledImages":
        """Open images.

        Args:
            paths: of images with as many bands.
            reading: how the images are divided and read.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: an image is no raster or lacks a band, or images differ in their bands or
                have the same name.
        """
        stems = [path.stem for path in paths]
        if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
            raise ValueError(
                f"several images are called {', '.join(twice)}, but points name their images: "
                f"rename them, or take each alone"
            )
        images = [_open(path, reading) for path in paths]
        known = {image.bands: image.reader.path for image in images}
        if len(known) > 1:
            each = ", ".join(f"{path} bands {shorten(bands)}" for bands, path in known.items())
            raise ValueError(
                f"images are read by different bands, {each}: choose bands that all have (--bands)"
            )
        return cls(images, reading)

    @property
    def bands(self) -> tuple[int, ...]:
        """Band numbers, from 1, that are read."""
        return self.images[0].bands

    @property
    def value_range(self) -> tuple[float, float]:
        """Values that become 0 and 255."""
        return self.images[0].value_range

    def sources(self) -> SourceImages:
        """Return the images as labels in pixels name them."""
        return SourceImages(_describe(image, self.reading.downsample) for image in self.images)

    def find(self, annotations: Annotations, classes: ClassTable) -> "FoundLabels":
        """Find the labels on the images.

        Args:
            annotations: points, lines and polygons.
            classes: of the annotations.

        Raises:
            ValueError: an image cannot be placed, or no label lies on an image.
        """
        report = PlacementReport(annotations)
        tiles: list[LabelTile] = []
        read: list[_Image] = []
        for image in self.images:
            placed = PlacementReport(annotations)
            found = _cut(image, annotations, placed, self.reading.tile_px)
            report.include(placed)
            tiles += found
            read += [image] * len(found)
        report.check()

        def windows(margin_px: int) -> Iterator[LabelledWindow]:
            side_px = self.reading.tile_px + 2 * margin_px
            return _read_all(zip(read, tiles, strict=True), side_px)

        return FoundLabels(LabelSource(tiles, classes, len(self.bands), windows), report)


@dataclass(frozen=True)
class FoundLabels:
    """Labels on images, and how many of them there are."""

    source: LabelSource
    report: PlacementReport


def _describe(image: _Image, downsample: int) -> SourceImage:
    info = RasterReader(image.reader.path).info()
    return SourceImage(
        orthophoto=info.path.stem,
        image=info.path.name,
        height=info.height,
        width=info.width,
        downsample=downsample,
        is_placed=info.crs is not None or info.is_georeferenced,
    )


def _open(path: Path, reading: ImageReading) -> _Image:
    reader = RasterReader(path)
    info = reader.info()
    alpha = reader.alpha_bands()
    others = tuple(band for band in range(1, info.bands + 1) if band not in alpha)
    bands = reading.bands or others[:3]
    if not bands or min(bands) < 1 or max(bands) > info.bands:
        raise ValueError(
            f"{path} has {info.bands} band(s), wanted {', '.join(map(str, bands))}: choose others "
            f"with --bands"
        )
    if reading.value_range is None and info.dtype != "uint8":
        raise ValueError(
            f"{path} holds {info.dtype}: set with --value-range LOW,HIGH the values that become "
            f"black and white"
        )
    if reading.downsample > 1:
        height, width = (
            max(1, round(side / reading.downsample)) for side in (info.height, info.width)
        )
        reader = ResampledReader(path, height, width, bands=bands)
    return _Image(reader, bands, reading.value_range or EIGHT_BIT)


def _cut(
    image: _Image, annotations: Annotations, report: PlacementReport, tile_px: int
) -> list[LabelTile]:
    """Return the tiles of an image that have labels."""
    grid, name = image.reader.info(), image.reader.path.stem
    placement = place_annotations(annotations, grid, report, orthophoto=name, all_touched=False)
    tiles = []
    for top in range(0, grid.height, tile_px):
        for left in range(0, grid.width, tile_px):
            height, width = min(tile_px, grid.height - top), min(tile_px, grid.width - left)
            clicks = placement.burn(Window(left, top, width, height))
            if (clicks != IGNORE_INDEX).any():
                tile = f"{name}_{top}_{left}"
                tiles.append(LabelTile(tile, name, name, "", grid, top, left, clicks))
    return tiles


def _read_all(pairs: Iterable[tuple[_Image, LabelTile]], side_px: int) -> Iterator[LabelledWindow]:
    """Read each tile at the centre of a square that is moved inward, as the stage `train` does.

    Tiles that follow each other in one square have one image, whose features are computed once.
    """
    last: tuple[object, Image] | None = None
    for image, tile in pairs:
        height, width = tile.clicks.shape
        top = begin_around(tile.row_off, height, side_px, tile.grid.height)
        left = begin_around(tile.col_off, width, side_px, tile.grid.width)
        sides = min(side_px, tile.grid.height - top), min(side_px, tile.grid.width - left)
        square = image.reader.path, top, left
        if last is None or last[0] != square:
            window = Window(left, top, sides[1], sides[0])
            values, _ = image.reader.read_scaled(window, image.bands, image.value_range)
            last = square, values
        mask = np.full(sides, IGNORE_INDEX, np.uint8)
        row, col = tile.row_off - top, tile.col_off - left
        own = slice(row, row + height), slice(col, col + width)
        mask[own] = tile.clicks
        yield LabelledWindow(last[1], mask, tile.id, own=own)
