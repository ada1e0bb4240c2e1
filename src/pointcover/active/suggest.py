"""Suggest queries on images that an annotator will answer."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pointcover.active.select import Progress, QuerySearch, Suggestion, make_score_of_queries
from pointcover.active.settings import ImageQuerySettings
from pointcover.active.suggestion_file import leave_out_near
from pointcover.maps.orthophotos import Orthophoto, open_orthophoto
from pointcover.maps.settings import ReadingSettings
from pointcover.models.load import NamedModel
from pointcover.raster.raster_io import RasterReader
from pointcover.runtime.devices import Fabric
from pointcover.vectors.features import Annotations


class Suggester:
    """Models on a device, ready to look for queries."""

    def __init__(
        self, fabric: Fabric, models: Sequence[NamedModel], settings: ImageQuerySettings
    ) -> None:
        """Bring models to a device.

        Args:
            fabric: device and precision.
            models: which fit each other.
            settings: how queries are chosen.

        Raises:
            ValueError: the acquisition function needs several models or views, and there is one.
        """
        self._tile_sets = [model.tile_set for model in models]
        self._settings, self._device = settings, fabric.device
        networks = [fabric.setup_module(model.segmenter).eval() for model in models]
        score = make_score_of_queries(networks, settings.acquisition, settings)
        self._search = QuerySearch(
            score, settings, self._tile_sets[0], settings.seed, settings.batch_size
        )

    def prepare(
        self, images: Sequence[Path], out: Path, reading: ReadingSettings
    ) -> list[Orthophoto]:
        """Check images and the name of the file before any work.

        Args:
            images: to look at.
            out: the file that will be written.
            reading: how the images are read.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: an image does not fit the model, or has no CRS or place; two have one name;
                the file's name does not end in .gpkg.
        """
        if out.suffix != ".gpkg":
            raise ValueError(f"{out} does not end in .gpkg: points are written as a GeoPackage")
        stems = [path.stem for path in images]
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        if twice:
            raise ValueError(
                f"several images are called {', '.join(twice)}, and a point names its image: "
                f"rename them, or look at them one after the other"
            )
        _check_places(images)
        return [open_orthophoto(path, self._tile_sets, reading) for path in images]

    def suggest(
        self,
        orthophotos: Sequence[Orthophoto],
        progress: Progress,
        clicks: Annotations | None = None,
    ) -> list[Suggestion]:
        """Choose the queries of greatest uncertainty.

        Args:
            orthophotos: of `prepare`.
            progress: is called with rows as they are done.
            clicks: existing annotations, from which queries keep the same distance as from each
                other.

        Raises:
            ValueError: an image is damaged, or none holds data (far enough from other classes and
                clicks), or the CRS of the clicks cannot be transformed to that of an image.
        """
        settings = self._settings
        leave_out = partial(leave_out_near, clicks, settings.distance_px) if clicks else None
        candidates = self._search.find(
            orthophotos, settings.points, self._device, progress, leave_out
        )
        if not any(len(found.rows) for found in candidates):
            raise ValueError(
                "the images have no pixel with data"
                + (" so far from other classes" if settings.edge_px else "")
                + (" so far from the clicks" if clicks else "")
                + ": check their nodata value and alpha band"
                + (f", or lower edge_px ({settings.edge_px})" if settings.edge_px else "")
            )
        grids = [orthophoto.grid for orthophoto in orthophotos]
        return self._search.choose(candidates, settings.points, grids)


def _check_places(images: Sequence[Path]) -> None:
    """Check that images are georeferenced.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: some have no CRS or no transform.
    """
    infos = [RasterReader(path).info() for path in images]
    lost = [str(info.path) for info in infos if info.crs is None]
    if lost:
        raise ValueError(
            f"{', '.join(lost)}: no CRS, so a click would have no place on the map. Give the "
            f"image its CRS (in QGIS: Raster > Projections > Assign projection)"
        )
    unplaced = [str(info.path) for info in infos if not info.is_georeferenced]
    if unplaced:
        raise ValueError(
            f"{', '.join(unplaced)}: a CRS, but no transform, so a click would have no place on "
            f"the map. Put the image's world file beside it, or georeference it (in QGIS: Layer > "
            f"Georeferencer)"
        )
