"""The features of points, each computed once, and kept in the project folder."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from pointcover.labelling.blocks import BlockFeatures, read_features
from pointcover.labelling.view import BlockKey, Extent
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import BlockName
from pointcover.raster.overviews import LevelReader
from pointcover.runtime.atomic_files import digest_values, publish_file

Rows = dict[BlockName, npt.NDArray[np.float32]]
"""(len(OFFSETS_PX), features) by block of features: of a point, and of pixels around it."""

OFFSETS_PX: Final = ((0, 0), (-9, 6), (8, 11))
"""Rows and columns from a point to the pixels around it. These tell what features vary by where a
few points do not. Where they lead out of the point's cell, they are taken the other way."""

CELL_PX: Final = 32
"""Side of the window whose features are computed for a point: at least twice the offsets, and a
divisor of the blocks, so that a point has the same pixels around it in a window and in a block."""

RULE: Final = 1
"""Version of the rule by which `beside` chooses the pixels around a point. Count it up when the
rule changes, so that what an older version kept is computed anew."""

DAMAGED: Final = (zipfile.BadZipFile, zlib.error)
"""Errors of a file that was cut short or changed."""


@dataclass(frozen=True, order=True)
class Place:
    """A pixel of an image at a level."""

    image: int
    level: int
    row: int
    col: int


class PointFeatures:
    """The features at points."""

    def __init__(
        self, folder: Path, features: PixelFeatures, readers: Sequence[LevelReader]
    ) -> None:
        """Read what an earlier session computed.

        Args:
            folder: where features are kept.
            features: blocks of features.
            readers: of the project's images.
        """
        rule = [RULE, OFFSETS_PX, CELL_PX]
        said = [features.settings.model_dump(mode="json"), features.bands, _digest(features), rule]
        self._names = [reader.key for reader in readers]
        self._path = folder / f"points_{digest_values(said)[:16]}.npz"
        self._features, self._readers = features, readers
        self._known: dict[Place, Rows] = {}
        self._changed = False
        self._lock = Lock()
        self._load()

    def has(self, place: Place) -> bool:
        """Return whether the features of a place are known."""
        return place in self._known

    def get(self, place: Place) -> Rows:
        """Return the features of a place, computed from its own window if they are not known.

        Raises:
            ValueError: the image is damaged there.
        """
        if place not in self._known:
            self.compute([place])
        return self._known[place]

    def unknown_cells(self, places: Iterable[Place]) -> list[list[Place]]:
        """Return the places whose features are not known, those of one cell together."""
        cells: dict[tuple[int, int, int, int], list[Place]] = {}
        for place in places:
            if place not in self._known:
                cell = place.image, place.level, place.row // CELL_PX, place.col // CELL_PX
                cells.setdefault(cell, []).append(place)
        return list(cells.values())

    def compute(self, places: Sequence[Place]) -> None:
        """Compute the features of places in one cell from its own window.

        Raises:
            ValueError: the image is damaged there.
        """
        first = places[0]
        top, left = first.row // CELL_PX * CELL_PX, first.col // CELL_PX * CELL_PX
        reader = self._readers[first.image]
        height, width = reader.size(first.level)
        extent = Extent(top, left, min(CELL_PX, height - top), min(CELL_PX, width - left))
        block = read_features(reader, self._features, first.level, extent)
        self._keep(places, block, (top, left))

    def take_from(
        self, block: BlockFeatures, key: BlockKey, places: Iterable[Place], block_px: int
    ) -> None:
        """Keep the features of places that lie in a block which is computed already."""
        top, left = key.row * block_px, key.col * block_px
        inside = [
            place
            for place in places
            if (place.image, place.level) == (key.image, key.level)
            and 0 <= place.row - top < block.height
            and 0 <= place.col - left < block.width
            and place not in self._known
        ]
        if inside:
            self._keep(inside, block, (top, left))

    def save(self) -> None:
        """Write the features to the disk, if some are new.

        Raises:
            OSError: the disk is full.
        """
        with self._lock:
            known, self._changed = dict(self._known), False
        if not known:
            return
        places = [[self._names[p.image], p.level, p.row, p.col] for p in known]
        arrays = {
            block: np.stack([row[block] for row in known.values()]).astype(np.float16)
            for block in self._features.settings.blocks
        }
        with publish_file(self._path) as aside, aside.open("wb") as file:
            np.savez(file, places=np.array(json.dumps(places)), **arrays)  # type: ignore[arg-type]

    @property
    def is_changed(self) -> bool:
        """Whether features are new since they were saved."""
        return self._changed

    def _keep(self, places: Sequence[Place], block: BlockFeatures, start: tuple[int, int]) -> None:
        down, right = torch.tensor(OFFSETS_PX).T
        rows = torch.tensor([place.row - start[0] for place in places])
        cols = torch.tensor([place.col - start[1] for place in places])
        around = beside(rows, down, block.height), beside(cols, right, block.width)
        found = {
            name: values.view(len(places), len(OFFSETS_PX), -1).numpy()
            for name, values in block.at(*around).items()
        }
        kept = [{name: values[n] for name, values in found.items()} for n in range(len(places))]
        with self._lock:
            self._known |= dict(zip(places, kept, strict=True))
            self._changed = True

    def _load(self) -> None:
        """Read the file; one that is damaged or of other features is computed anew."""
        if not self._path.is_file():
            return
        try:
            with self._path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                places = json.loads(str(file["places"]))
                arrays = {
                    block: file[block].astype(np.float32)
                    for block in self._features.settings.blocks
                }
            counts = dict(zip(arrays, self._features.counts(tuple(arrays)), strict=True))
            per_place = len(places), len(OFFSETS_PX)
            if any(values.shape != (*per_place, counts[b]) for b, values in arrays.items()):
                return
            numbers = {name: number for number, name in enumerate(self._names)}
            for n, (name, *rest) in enumerate(places):
                if name in numbers:
                    place = Place(numbers[name], *map(int, rest))
                    self._known[place] = {block: values[n] for block, values in arrays.items()}
        except (OSError, ValueError, KeyError, TypeError, EOFError, *DAMAGED):
            self._known.clear()


def beside(places: torch.Tensor, offsets: torch.Tensor, side: int) -> torch.Tensor:
    """Return rows or columns around places, within their cells and within a block.

    Args:
        places: (P,) rows or columns, from the first one of the block.
        offsets: (O,).
        side: of the block, which begins with a cell.

    Returns:
        (P * O,).
    """
    places, offsets = places[:, None], offsets[None]
    first = places // CELL_PX * CELL_PX
    last = (first + CELL_PX).clamp(max=side) - 1
    moved = places + offsets
    moved = torch.where((moved < first) | (moved > last), places - offsets, moved)
    return moved.clamp(first, last).flatten()


def _digest(features: PixelFeatures) -> str:
    """Return a digest of the weights and constants that features are computed with."""
    found = hashlib.sha256()
    for name, values in sorted(features.state_dict().items()):
        found.update(name.encode())
        found.update(values.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
