"""Inputs of labels: a simulated annotator, files of annotations, a folder of click rasters."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pointcover.annotation.rasters import CLICKS
from pointcover.annotation.settings import AnnotateSettings
from pointcover.labels import IGNORE_INDEX, Mask, count_values
from pointcover.raster.raster_io import RasterInfo, RasterReader, unwritten_error
from pointcover.text import shorten
from pointcover.tileset.source_images import read_source_images
from pointcover.tileset.tiles import Tile, TileReader, TileSet, raster_path
from pointcover.vectors.features import Annotations
from pointcover.vectors.read import has_companions
from pointcover.vectors.read_labels import read_labels

logger = logging.getLogger(__name__)

NONE: Final = Path("sources")
"""The folder that stands for no annotations, since DVC wants a dependency that exists."""

VECTOR_ENDINGS: Final = (".gpkg", ".geojson", ".shp")
EXPORT_ENDINGS: Final = (".json", ".xml", ".csv")
"""Of annotation tools; what a file holds is told by its contents."""
SIDECAR: Final = ".aux.xml"
"""Of files that GDAL writes beside images."""


@dataclass(frozen=True)
class LabelInputs:
    """From where the labels of a tile set come."""

    simulates: bool
    """Whether a simulated annotator clicks."""
    has_masks: bool
    """Whether there are dense masks."""
    vectors: Annotations | None
    """Annotations of files; they take precedence over all other clicks."""
    clicks: Path | None
    """A folder of click rasters; they take precedence over simulated clicks."""

    def to_annotate(self, tiles: Iterable[Tile]) -> list[Tile]:
        """Return the tiles to annotate.

        The test split is annotated only where there are no dense masks to score on.
        """
        return [tile for tile in tiles if tile.split != "test" or not self.has_masks]

    def scored(self, tiles: Iterable[Tile]) -> list[Tile]:
        """Return the tiles that are not annotated, since dense masks score them."""
        return [tile for tile in tiles if tile.split == "test" and self.has_masks]


def find_inputs(
    annotations: Path,
    settings: AnnotateSettings,
    tile_set: TileSet,
    tiles: Sequence[Tile],
    folder: Path,
) -> LabelInputs:
    """Find from where labels come, and read the files of annotations.

    Args:
        annotations: a file of annotations, or a folder with such, click rasters or both.
        settings: of annotation.
        tile_set: whose classes annotations may have.
        tiles: of the tile set.
        folder: of the tile set.

    Raises:
        ValueError: there are no labels: no sampler and no annotations, or no dense masks for the
            simulated annotator; or the annotations are not of this dataset.
    """
    files, clicks = find_label_files(annotations), _find_clicks(annotations, tiles)
    if annotations.is_dir() and annotations != NONE and not (files or clicks):
        raise ValueError(
            f"annotations: {annotations} holds no file that ends in "
            f"{', '.join(VECTOR_ENDINGS + EXPORT_ENDINGS)}, and no folder {CLICKS}/ of click "
            f"rasters: put one there, or set annotations to {NONE}, which means none"
        )
    inputs = LabelInputs(
        simulates=settings.sampler != "none",
        has_masks=any(sum(tile.pixels) for tile in tiles),
        vectors=read_labels(files, tile_set.classes, settings.vectors, read_source_images(folder))
        if files
        else None,
        clicks=clicks,
    )
    if not inputs.simulates and not (inputs.vectors or inputs.clicks):
        raise ValueError(
            f"annotate.sampler is 'none', and annotations is {NONE}, which means none: choose a "
            f"sampler, or set annotations to a folder with a GeoPackage, a Shapefile or an export "
            f"of an annotation tool, or with rasters below {CLICKS}/, or to a GeoJSON"
        )
    if inputs.simulates and not inputs.has_masks:
        raise ValueError(
            f"annotate.sampler is {settings.sampler!r}, but the dataset has no dense masks that a "
            f"simulated annotator needs: set annotate.sampler to none, and annotations to the "
            f"folder of a GeoPackage or Shapefile, or to a GeoJSON"
        )
    return inputs


def find_label_files(annotations: Path) -> list[Path]:
    """Find the files of annotations: those of their folder, or a file itself.

    DVC compares what `annotations` names. Edits of a GeoPackage are in a second file while QGIS has
    it open, and the classes of a Shapefile always are. So these are found in a folder alone, of
    which DVC compares all files.

    Returns:
        one vector file, or files of an annotation tool; none where the folder has none, or is the
        one that stands for none.

    Raises:
        ValueError: the folder has several vector files, or both kinds, or the file has or may have
            companions.
    """
    if not annotations.is_dir():
        if annotations.is_file() and has_companions(annotations):
            raise ValueError(
                f"annotations: {annotations} is one of several files that belong together (a "
                f"Shapefile has its classes in the .dbf, and a GeoPackage that is open in QGIS has "
                f"its edits in a -wal), of which DVC would compare this one alone. Move them into "
                f"a folder of their own, and set annotations to that folder"
            )
        return [annotations]
    if annotations == NONE:
        return []
    there = sorted(path for path in annotations.iterdir() if not path.name.startswith("."))
    found = [path for path in there if path.suffix.lower() in VECTOR_ENDINGS]
    exports = [
        path
        for path in there
        if path.suffix.lower() in EXPORT_ENDINGS
        and not path.name.lower().endswith(SIDECAR)
        and not path.is_dir()
    ]
    if (annotations / CLICKS).is_dir():  # of which stages write tables: index.csv, suggestions.csv
        exports = [path for path in exports if path.suffix.lower() != ".csv"]
    if len(found) > 1:
        raise ValueError(
            f"annotations: {annotations} holds {shorten(path.name for path in found)}, wanted one "
            f"of them: join them as layers of one GeoPackage (QGIS: Processing > Package layers), "
            f"or move the others away"
        )
    if found and exports:
        raise ValueError(
            f"annotations: {annotations} holds {found[0].name}, and also "
            f"{shorten((path.name for path in exports), 3)}, wanted one kind of labels: move the "
            f"others away"
        )
    return found or exports


def _find_clicks(folder: Path, tiles: Iterable[Tile]) -> Path | None:
    """Find the click rasters in the folder of annotations; None where it has none.

    Raises:
        ValueError: none of them is of an orthophoto of the dataset.
    """
    clicks = folder / CLICKS
    if not clicks.is_dir():
        return None
    wanted = {raster_path(clicks, tile.split, tile.orthophoto) for tile in tiles}
    if not any(path.exists() for path in wanted):
        found = shorten(sorted(str(path.relative_to(clicks)) for path in clicks.rglob("*.tif")))
        raise ValueError(
            f"annotations: {clicks} has no raster of this dataset's orthophotos: got "
            f"{found or 'none at all'}, wanted such as {min(wanted).relative_to(clicks)}"
        )
    others = sorted(set(clicks.rglob("*.tif")) - wanted)
    if others:
        logger.warning(
            "annotations: %d of the rasters in %s are of no orthophoto and split of this dataset, "
            "and are not read: %s",
            len(others),
            clicks,
            shorten(str(path.relative_to(clicks)) for path in others),
        )
    return clicks.absolute()


def check_labels(tiles: Iterable[Tile]) -> None:
    """Check that there are labels to train on.

    Raises:
        ValueError: no pixel of the train split has a label.
    """
    train = [tile for tile in tiles if tile.split == "train"]
    if not any(sum(tile.pixels) for tile in train):
        regions = shorten(sorted({tile.region for tile in train}))
        raise ValueError(
            f"no label lies on the train split, which has the regions {regions}: annotate there, "
            f"raise `points`, or list with `split` in the card which regions are for training"
        )


class ClickRasters:
    """Reads the click raster of one orthophoto and split; unlabelled where there is none."""

    def __init__(
        self, folder: Path | None, grid: RasterInfo, tile: Tile, tile_set: TileSet
    ) -> None:
        """Find the raster.

        Args:
            folder: of click rasters; None where there are none.
            grid: of the orthophoto's image in the tile set.
            tile: any of the orthophoto and split.
            tile_set: whose classes clicks may have.

        Raises:
            ValueError: the raster lies on another grid.
        """
        self._classes = tile_set.classes
        self._reader: TileReader | None = None
        path = raster_path(folder, tile.split, tile.orthophoto) if folder else None
        if folder is None or path is None or not path.exists():
            return
        reader = RasterReader(path)
        found = reader.info()
        if (found.height, found.width, found.bands) != (grid.height, grid.width, 1):
            raise ValueError(
                f"{path} has {found.bands} band(s) of {found.height} × {found.width} px, wanted "
                f"one of {grid.height} × {grid.width}: clicks lie on the pixels of the tile "
                f"stage's images (see tile.downsample), so make them from data/tiles/images"
            )
        unwritten = reader.unwritten_window()
        if unwritten is not None and (reader.read(unwritten) != IGNORE_INDEX).any():
            raise unwritten_error(path, unwritten, f"clicks of class {tile_set.classes.names[0]!r}")
        self._reader = TileReader(folder, tile_set.size_px, IGNORE_INDEX)

    def add_to(self, clicks: Mask, tile: Tile) -> Mask:
        """Return clicks of a tile, (H, W), replaced by those of the raster where it has any.

        Raises:
            ValueError: the raster holds a value that is not a class id.
        """
        if self._reader is None:
            return clicks
        found = self._reader.read(tile)[0][: tile.height, : tile.width]
        (ids,) = np.nonzero(count_values(found))
        unknown = ids[(ids >= len(self._classes)) & (ids != IGNORE_INDEX)]
        if len(unknown):
            raise ValueError(
                f"{self._reader.folder} holds the class id {unknown[0]}, wanted 0 to "
                f"{len(self._classes) - 1}, or {IGNORE_INDEX} where nobody clicked: "
                f"{', '.join(self._classes.names)} are the classes"
            )
        return np.where(found != IGNORE_INDEX, found, clicks)
