"""Suggesting: the next clicks on images of one's own, by models of one's own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pointcover.active.select import Suggestion, choose, look_at_images
from pointcover.active.suggestion_file import leave_out_near
from pointcover.active.uncertainty import Acquisition, make_acquisition
from pointcover.maps.orthophotos import Orthophoto, ReadingSettings, open_orthophoto
from pointcover.models.load import NamedModel
from pointcover.raster.raster_io import RasterReader
from pointcover.runtime.devices import Fabric
from pointcover.vectors.features import Annotations


@dataclass(frozen=True)
class SuggestSettings:
    """How clicks are chosen."""

    acquisition: Acquisition = "margin"
    average_views: bool = False
    by_class: bool = False
    distance_px: float = 32
    edge_px: int = 0
    top_fraction: float = 0
    batch_size: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse a distance or a fraction out of range.

        Raises:
            ValueError: a distance less than a pixel, infinite or not a number; a fraction
                outside 0 to 1.
        """
        if not 1 <= self.distance_px < math.inf:
            raise ValueError(
                f"distance_px: got {self.distance_px}, wanted a number of pixels, 1 or more"
            )
        if not 0 <= self.top_fraction <= 1:
            raise ValueError(
                f"top_fraction: got {self.top_fraction}, wanted a fraction from 0 to 1"
            )


class Suggester:
    """Models on a device, ready to look for the next clicks."""

    def __init__(
        self,
        fabric: Fabric,
        models: Sequence[NamedModel],
        settings: SuggestSettings,
        reading: ReadingSettings,
    ) -> None:
        """Bring models to a device.

        Args:
            fabric: device and precision.
            models: which fit each other.
            settings: how clicks are chosen.
            reading: what a user says of the images.

        Raises:
            ValueError: one view of one model is to disagree with itself.
        """
        self._tile_sets = [model.tile_set for model in models]
        self._settings, self._reading, self._device = settings, reading, fabric.device
        self._score = make_acquisition(
            [fabric.setup_module(model.segmenter).eval() for model in models],
            settings.acquisition,
            average_views=settings.average_views,
            edge_px=settings.edge_px,
        )

    def prepare(self, images: Sequence[Path], out: Path) -> list[Orthophoto]:
        """Check images before any work, and where the file goes.

        Raises:
            FileNotFoundError: an image is missing.
            ValueError: an image does not fit the model, or has no CRS or place; two have one name;
                the file is called otherwise than .gpkg.
        """
        if out.suffix != ".gpkg":
            raise ValueError(f"{out} does not end in .gpkg: points are written as a GeoPackage")
        stems = [path.stem for path in images]
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        if twice:
            raise ValueError(
                f"several images are called {', '.join(twice)}, and a point could not say on which "
                f"it lies: rename them, or look at them one after the other"
            )
        _check_places(images)
        return [open_orthophoto(path, self._tile_sets, self._reading) for path in images]

    def suggest(
        self,
        orthophotos: Sequence[Orthophoto],
        count: int,
        progress: Callable[[int], object],
        clicks: Annotations | None = None,
    ) -> list[Suggestion]:
        """Choose the clicks that are worth most.

        Args:
            orthophotos: of `prepare`.
            count: how many clicks.
            progress: is told of rows as they are done.
            clicks: what is annotated already: no click is so near to it as to another one.

        Raises:
            ValueError: an image is damaged, or none holds data (far enough from other classes and
                clicks), or nothing leads from the CRS of the clicks to that of an image.
        """
        settings = self._settings
        candidates = look_at_images(
            orthophotos,
            self._score,
            len(self._tile_sets[0].classes),
            tile_px=self._tile_sets[0].size_px,
            count=count,
            distance_px=settings.distance_px,
            by_class=settings.by_class,
            top_fraction=settings.top_fraction,
            seed=settings.seed,
            batch_size=settings.batch_size,
            device=self._device,
            progress=progress,
            leave_out=partial(leave_out_near, clicks, settings.distance_px) if clicks else None,
        )
        if not any(len(found.rows) for found in candidates):
            raise ValueError(
                "the images have no pixel with data"
                + (" so far from other classes" if settings.edge_px else "")
                + (" so far from the clicks" if clicks else "")
                + ", so there is nothing to click on: look at their nodata value and alpha band"
                + (f", or lower edge_px ({settings.edge_px})" if settings.edge_px else "")
            )
        return choose(
            candidates,
            count,
            settings.distance_px,
            by_class=settings.by_class,
            grids=[orthophoto.grid for orthophoto in orthophotos],
        )


def _check_places(images: Sequence[Path]) -> None:
    """Check that images say where on the Earth their pixels lie.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: some have no CRS or no transform.
    """
    infos = [RasterReader(path).info() for path in images]
    lost = [str(info.path) for info in infos if info.crs is None]
    if lost:
        raise ValueError(
            f"{', '.join(lost)}: no CRS, so a click would be nowhere on the map. Give the "
            f"image its CRS (in QGIS: Raster > Projections > Assign projection)"
        )
    unplaced = [str(info.path) for info in infos if not info.is_georeferenced]
    if unplaced:
        raise ValueError(
            f"{', '.join(unplaced)}: a CRS, but no transform, so a click would be nowhere on the "
            f"map. Put the image's world file beside it, or georeference it (in QGIS: Layer > "
            f"Georeferencer)"
        )
