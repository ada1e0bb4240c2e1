"""The source images of a tile set: their paths, sizes and CRS, as the files were before tiling."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pointcover.runtime.atomic_files import own_file, publish_text
from pointcover.text import compose, shorten

SOURCE_IMAGES: Final = "images.jsonl"
"""The file of a tile set that lists its source images, one JSON object a line."""


@dataclass(frozen=True)
class SourceImage:
    """An image that was cut into tiles."""

    orthophoto: str
    image: str
    """Path below the dataset's folder."""
    height: int
    """Of the file, in pixels."""
    width: int
    downsample: int
    """Pixels of the file along one side of a pixel of the tiles."""
    is_placed: bool
    """Whether it has a CRS or a transform, so that a GIS does not show it in pixels."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the file, in pixels."""
        return self.height, self.width


class SourceImages:
    """Finds source images by the names that files of labels have for them."""

    def __init__(self, images: Iterable[SourceImage]) -> None:
        """Index the images by orthophoto and by file name."""
        self.by_orthophoto: Mapping[str, SourceImage] = {each.orthophoto: each for each in images}
        self._found: dict[tuple[str, ...], SourceImage] = {}

    @cached_property
    def _by_file_name(self) -> dict[str, list[SourceImage]]:
        found: dict[str, list[SourceImage]] = {}
        for each in self.by_orthophoto.values():
            found.setdefault(PurePosixPath(compose(each.image)).name, []).append(each)
        return found

    @cached_property
    def _by_composed_orthophoto(self) -> dict[str, SourceImage]:
        return {compose(name): each for name, each in self.by_orthophoto.items()}

    @property
    def are_placed(self) -> bool:
        """Whether any of the images has a CRS or a transform."""
        return any(each.is_placed for each in self.by_orthophoto.values())

    def find(self, *names: str) -> SourceImage:
        """Find an image by its path, the end of its path, its file name, or its orthophoto.

        Args:
            names: of one image; the first that is known is used.

        Raises:
            ValueError: no image has such a name, or several have.
        """
        if names not in self._found:
            self._found[names] = self._find(names)
        return self._found[names]

    def _find(self, names: tuple[str, ...]) -> SourceImage:
        for name in names:
            parts = PurePosixPath(compose(name.strip().replace("\\", "/"))).parts
            if not parts:
                continue
            found = self._by_file_name.get(parts[-1], [])
            if not found and len(parts) == 1 and parts[0] in self._by_composed_orthophoto:
                return self._by_composed_orthophoto[parts[0]]
            if len(found) > 1:
                alike = [_count_alike(parts, PurePosixPath(compose(e.image)).parts) for e in found]
                found = [e for e, n in zip(found, alike, strict=True) if n == max(alike)]
            if len(found) > 1:
                raise ValueError(
                    f"image {name!r} may be {shorten((e.image for e in found), 3)}: its path must "
                    f"end as in the dataset, with the folder"
                )
            if found:
                return found[0]
        known = shorten((each.image for each in self.by_orthophoto.values()), 3)
        raise ValueError(f"image {names[0][:200]!r} is not in the dataset, which has {known}")


def _count_alike(one: Sequence[str], two: Sequence[str]) -> int:
    """Count the last parts of two paths that are equal."""
    count = 0
    for left, right in zip(reversed(one), reversed(two), strict=False):
        if left != right:
            break
        count += 1
    return count


def write_source_images(tiles: Path, images: Iterable[SourceImage]) -> None:
    """Write the list of source images into the folder of a tile set."""
    lines = (json.dumps(asdict(image), ensure_ascii=False) + "\n" for image in images)
    publish_text(tiles / SOURCE_IMAGES, "".join(lines))


def read_source_images(tiles: Path) -> SourceImages:
    """Read the list of source images from the folder of a tile set.

    Raises:
        FileNotFoundError: the tile stage did not write it.
        ValueError: it is damaged.
    """
    path = tiles / SOURCE_IMAGES
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, which lists the images of the tiles: run `dvc repro tile`"
        )
    with own_file(path):
        lines = path.read_text(encoding="utf-8").splitlines()
        return SourceImages(_make(json.loads(line)) for line in lines)


def _make(values: dict[str, Any]) -> SourceImage:
    image = SourceImage(**values)
    if not all(isinstance(n, int) and n > 0 for n in (*image.size, image.downsample)):
        raise TypeError(f"height, width and downsample must be whole numbers, got {values!r}")
    return image
