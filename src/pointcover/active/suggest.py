"""Suggest queries on images for an annotator."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pointcover.active.select import Progress, QuerySearch, Suggestion, make_score_of_queries
from pointcover.active.settings import ImageQuerySettings
from pointcover.active.suggestion_file import leave_out_near, write_suggestions
from pointcover.maps.orthophotos import Orthophoto, open_orthophoto
from pointcover.maps.settings import ReadingSettings
from pointcover.models.load import NamedModel
from pointcover.prediction.windows import needs_of
from pointcover.raster.raster_io import RasterReader
from pointcover.runtime.devices import Fabric
from pointcover.vectors.features import Annotations
from pointcover.vectors.read import read_annotations
from pointcover.vectors.settings import VectorSettings


class Suggester:
    """Chooses queries on images with one or several models on a device."""

    def __init__(
        self, fabric: Fabric, models: Sequence[NamedModel], settings: ImageQuerySettings
    ) -> None:
        """Move models to a device.

        Args:
            fabric: device and precision.
            models: an ensemble; all have the same classes and bands.
            settings: how queries are chosen.

        Raises:
            ValueError: the acquisition function needs several models or views.
        """
        self._tile_sets = [model.tile_set for model in models]
        self._settings, self._device = settings, fabric.device
        networks = [fabric.setup_module(model.segmenter).eval() for model in models]
        score = make_score_of_queries(networks, settings.acquisition, settings)
        self._search = QuerySearch(
            score,
            settings,
            self._tile_sets[0],
            settings.seed,
            settings.batch_size,
            needs_of(model.checkpoint.classifier for model in models),
        )

    def prepare(
        self, images: Sequence[Path], out: Path, reading: ReadingSettings
    ) -> list[Orthophoto]:
        """Check images and the name of the output file before prediction begins.

        Args:
            images: on which points are suggested.
            out: the file that will be written.
            reading: how the images are read.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: an image does not match the models, or is not georeferenced; two images
                have the same stem; or `out` does not end in .gpkg.
        """
        if out.suffix != ".gpkg":
            raise ValueError(f"{out} does not end in .gpkg: points are written as a GeoPackage")
        stems = [path.stem for path in images]
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        if twice:
            raise ValueError(
                f"several images are called {', '.join(twice)}, but points name their images: "
                f"rename them, or run the command once for each"
            )
        _check_places(images)
        return [open_orthophoto(path, self._tile_sets, reading) for path in images]

    def suggest(
        self,
        orthophotos: Sequence[Orthophoto],
        progress: Progress,
        clicks: Annotations | None = None,
    ) -> list[Suggestion]:
        """Choose the queries with the greatest uncertainty.

        Args:
            orthophotos: from `prepare`.
            progress: called with the number of rows after each strip.
            clicks: existing annotations, to which queries keep the same distance as to each other.

        Raises:
            ValueError: an image is damaged, no pixel may be queried, or the CRS of `clicks` cannot
                be transformed to that of an image.
        """
        settings = self._settings
        leave_out = partial(leave_out_near, clicks, settings.distance_px) if clicks else None
        candidates = self._search.find(
            orthophotos, settings.points, self._device, progress, leave_out
        )
        if not any(len(found.rows) for found in candidates):
            raise ValueError(
                "the images have no pixel with data"
                + (" far enough from other classes" if settings.edge_px else "")
                + (" far enough from the existing annotations" if clicks else "")
                + ": check their nodata value and alpha band"
                + (f", or lower edge_px ({settings.edge_px})" if settings.edge_px else "")
            )
        grids = [orthophoto.grid for orthophoto in orthophotos]
        return self._search.choose(candidates, settings.points, grids)

    def read_clicks(self, path: Path, column: str = "class") -> Annotations:
        """Read existing annotations, to which queries keep their distance.

        Args:
            path: of a GeoPackage, GeoJSON or Shapefile.
            column: of the classes.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read, or has other classes than the models.
        """
        return read_annotations(path, self._tile_sets[0].classes, VectorSettings(column=column))

    def write(
        self, path: Path, orthophotos: Sequence[Orthophoto], found: Sequence[Suggestion]
    ) -> dict[str, int]:
        """Write queries as points, with an empty column `class`; see `write_suggestions`.

        Returns:
            the number of points by layer.

        Raises:
            OSError: the disk is full, or the file does not read back as written.
        """
        grids = [orthophoto.grid for orthophoto in orthophotos]
        names = [orthophoto.reader.path.stem for orthophoto in orthophotos]
        return write_suggestions(path, found, grids, names, self._tile_sets[0].classes)


def _check_places(images: Sequence[Path]) -> None:
    """Check that images are georeferenced.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: an image has no CRS or no transform.
    """
    infos = [RasterReader(path).info() for path in images]
    for info in infos:
        if info.warp_advice:
            raise ValueError(f"{info.warp_advice}; points would have no coordinates")
    lost = [str(info.path) for info in infos if info.crs is None]
    if lost:
        raise ValueError(
            f"{', '.join(lost)}: found no CRS, so points would have no coordinates. Assign a CRS "
            f"to the image (in QGIS: Raster > Projections > Assign projection)"
        )
