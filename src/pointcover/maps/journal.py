"""The strips of a map that is being made, from which a later attempt resumes.

Each strip is a file of its own, written atomically. They lie in a folder beside the map, which is
named by the image and removed when the map is complete; a file in it holds the map's key.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from pointcover.raster.grids import north_up
from pointcover.raster.raster_io import GeoTiffProfile, Window, write_geotiff
from pointcover.runtime.atomic_files import PARTIAL, publish_json, publish_text, read_json

STRIP_BLOCK_PX: Final = 512
_KEY: Final = "key.txt"
_LOCK: Final = "lock"


class MapJournal:
    """The strips of one map; held by one process at a time."""

    def __init__(self, folder: Path, key: str, cuts: Sequence[int]) -> None:
        """Take the folder and the key of the map.

        Args:
            folder: where the strips lie; made when the journal is entered.
            key: of all that decides the map; strips of another key are removed.
            cuts: rows at which strips begin, and the last one ends.
        """
        self.folder = folder
        self._key = key
        self._count = len(cuts) - 1
        self._lock = FileLock(folder / _LOCK)

    def has_begun(self) -> bool:
        """Return whether an attempt at this very map left something."""
        path = self.folder / _KEY
        return path.is_file() and path.read_text(encoding="utf-8") == self._key

    def __enter__(self) -> Self:
        """Lock the folder, and remove strips of another map.

        Raises:
            OSError: the folder cannot be made or written.
            ValueError: another process makes this map.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"another process works in {self.folder}: wait for it, or choose another --out"
            ) from None
        if not self.has_begun():
            for path in self.folder.iterdir():
                if path.name != _LOCK:
                    path.unlink()
            publish_text(self.folder / _KEY, self._key)
        for path in self.folder.glob(f"*{PARTIAL}*"):
            path.unlink()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the folder."""
        self._lock.release()

    def paths(self) -> list[Path]:
        """Return the paths of all strips from top to bottom, written or not."""
        return [self.folder / f"strip_{number:05}.tif" for number in range(self._count)]

    def done(self) -> int:
        """Count the strips that are there, from the top without a gap.

        Those without counts are of an older version.
        """
        pairs = zip(self.paths(), self._notes(), strict=True)
        there = [strip.is_file() and note.is_file() for strip, note in pairs]
        return there.index(False) if False in there else len(there)

    def save(self, number: int, strip: npt.NDArray[np.uint8], counts: Mapping[str, int]) -> None:
        """Write a strip, (layers, rows, W) uint8, and what was counted of it, by name.

        Raises:
            OSError: the disk is full.
        """
        publish_json(self._notes()[number], counts)  # first: each strip has counts
        layers, height, width = strip.shape
        with write_geotiff(
            self.paths()[number],
            GeoTiffProfile(
                height=height,
                width=width,
                bands=layers,
                block_px=STRIP_BLOCK_PX,
                crs=None,
                transform=north_up(0, 0, 1),
            ),
        ) as out:
            out.write(strip, Window(0, 0, width, height))

    def totals(self) -> Counter[str]:
        """Add up what was counted of all strips, by name."""
        total: Counter[str] = Counter()
        for path in self._notes():
            total.update(read_json(path))
        return total

    def _notes(self) -> list[Path]:
        return [path.with_suffix(".json") for path in self.paths()]

    def remove_strips(self) -> None:
        """Remove the strips, after the map was made of them."""
        for path in self.paths():
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder, after the map is complete."""
        shutil.rmtree(self.folder)
