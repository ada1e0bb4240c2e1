"""Blind labelling: the points of a sample one after the other, without any map or model."""

import hashlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyproj

from pointcover.assessment.design import Design, DesignPoint
from pointcover.assessment.sample_answers import SampleAnswers
from pointcover.labelling.project import usual_bands, usual_range
from pointcover.labelling.rendering import encode_image
from pointcover.labelling.session import TILE_PX, NotFound
from pointcover.labels import format_colour
from pointcover.raster.grids import gsd_of
from pointcover.raster.overviews import LevelReader
from pointcover.raster.raster_io import RasterReader

COARSEST: Final = 3
"""Level up to which a person may zoom out: it is read without overviews."""


@dataclass(frozen=True)
class _Place:
    """Where a point of the sample lies in an image."""

    image: int
    x: float
    y: float


class BlindSession:
    """What the blind page does, by plain functions that any thread may call."""

    def __init__(self, images: Sequence[Path], sample: Path, author: str, cache: Path) -> None:
        """Open a sample and the images below it.

        Args:
            images: of the land that was sampled.
            sample: the file of `pointcover sample`.
            author: written beside each answer.
            cache: folder for overviews.

        Raises:
            FileNotFoundError: a file is missing, or no image was given.
            ValueError: the sample or an image is damaged, an image lacks a CRS, or none of the
                points lies in them.
            OSError: the sample cannot be written.
        """
        if not images:
            raise FileNotFoundError(
                f"no image was given to label the points of {sample} on: give the images that the "
                f"map was made of, such as `pointcover label images/*.tif --sample {sample}`"
            )
        infos = [RasterReader(path).info() for path in images]
        for info in infos:
            if info.crs is None or not info.is_georeferenced:
                raise ValueError(f"{info.path} has no CRS, so that no point can be placed on it")
        bands = usual_bands(infos)
        value_range = usual_range(infos[0], bands)
        self.readers = [LevelReader(path, bands, cache, value_range) for path in images]
        self.answers = SampleAnswers(sample, author)
        self.id = f"{secrets.token_hex(8)}-{_digest(sample, images)}"
        self._places = _place_all(self.answers.design, self.readers)
        if not self._places:
            self.close()
            raise ValueError(
                f"none of the {len(self.answers.design.points)} points of {sample} lies in the "
                f"images: give those that the map was made of"
            )

    @property
    def missing(self) -> int:
        """Number of points that lie in none of the images."""
        return len(self.answers.design.points) - len(self._places)

    def close(self) -> None:
        """Close all files."""
        for reader in self.readers:
            reader.close()
        self.answers.close()

    def is_same_project(self, session: str) -> bool:
        """Return whether a session's id is of this sample and its images, at any start."""
        return session.rpartition("-")[2] == self.id.rpartition("-")[2]

    def state(self) -> dict[str, Any]:
        """Return what the page needs; nothing of the map or the strata."""
        design = self.answers.design
        return {
            "session": self.id,
            "sample": self.answers.path.name,
            "classes": [
                {"name": name, "colour": format_colour(colour)}
                for name, colour in zip(design.classes, design.colours, strict=True)
            ],
            "images": [
                {
                    "name": reader.info.path.name,
                    "height": reader.info.height,
                    "width": reader.info.width,
                    "levels": min(reader.levels, COARSEST + 1),
                }
                for reader in self.readers
            ],
            "points": [self._describe(p) for p in design.points if p.id in self._places],
            "missing": self.missing,
            "tile_px": TILE_PX,
        }

    def answer(self, number: int, label: str | None) -> dict[str, Any]:
        """Write an answer; see `SampleAnswers.answer`.

        Raises:
            KeyError: there is no such point.
            ValueError: there is no such class.
            OSError: the disk is full, or another program has locked the file.
        """
        found = self.answers.answer(number, label)
        return {"id": number, "state": found.state, "class": found.label}

    def tile(self, image: int, level: int, row: int, col: int) -> tuple[bytes, str]:
        """Return a tile of an image, and its media type.

        Raises:
            NotFound: there is no such image or level.
            ValueError: the image is damaged there.
        """
        if not 0 <= image < len(self.readers) or not 0 <= level <= COARSEST or min(row, col) < 0:
            raise NotFound("there is no such tile")
        reader = self.readers[image]
        return encode_image(*reader.read(level, row * TILE_PX, col * TILE_PX, (TILE_PX, TILE_PX)))

    def _describe(self, point: DesignPoint) -> dict[str, Any]:
        place, known = self._places[point.id], self.answers.answers[point.id]
        gsd = gsd_of(self.readers[place.image].info)
        side_px = math.sqrt(point.area_m2) / gsd if gsd else float(self.answers.design.block_px)
        return {
            "id": point.id,
            "image": place.image,
            "x": place.x,
            "y": place.y,
            "side_px": round(side_px, 2),
            "state": known.state,
            "class": known.label,
        }


def _place_all(design: Design, readers: Sequence[LevelReader]) -> dict[int, _Place]:
    """Return where points lie, by id; in the image that their map was made of, if it is open."""
    found: dict[int, _Place] = {}
    for number, sampled in enumerate(design.maps):
        points = [point for point in design.points if point.map == number]
        order = sorted(range(len(readers)), key=lambda n, s=sampled: not _is_of(readers[n], s.name))  # type: ignore[misc]
        for image in order:
            info = readers[image].info
            assert info.crs is not None
            transform = pyproj.Transformer.from_crs(
                pyproj.CRS.from_wkt(sampled.crs),
                pyproj.CRS.from_wkt(info.crs.to_wkt()),
                always_xy=True,
            )
            for point in points:
                if point.id in found:
                    continue
                x, y = ~info.transform @ transform.transform(point.x, point.y)
                if 0 <= x < info.width and 0 <= y < info.height:
                    found[point.id] = _Place(image, round(x, 3), round(y, 3))
    return found


def _is_of(reader: LevelReader, name: str) -> bool:
    """Return whether a map has the name of an image's map."""
    return name in (reader.info.path.stem, f"{reader.info.path.stem}_classes")


def _digest(sample: Path, images: Sequence[Path]) -> str:
    said = repr([str(path.resolve()) for path in (sample, *images)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]
