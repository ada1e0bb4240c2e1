"""Acquiring: a dataset's files, drawn, found in `source`, or downloaded."""

from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pointcover.archives import extract_archive
from pointcover.datasets.card import DatasetCard
from pointcover.datasets.synthetic import GSD_M, draw_orthophoto
from pointcover.downloads import archive_cache, fetch_archive
from pointcover.labels import IGNORE_INDEX
from pointcover.raster import Window, north_up, write_geotiff

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_SYNTHETIC_CRS = "EPSG:2180"
_SYNTHETIC_ORIGIN = (500_000.0, 500_000.0)


def draw_dataset(
    card: DatasetCard, folder: Path, orthophotos: int, size_px: int, seed: int
) -> None:
    """Draw the synthetic dataset: GeoTIFFs in folder/images and folder/masks, side by side."""
    palette = dict(enumerate(card.class_table().colours))
    for number in tqdm(
        range(orthophotos), desc="drawing", unit="orthophoto", leave=False, disable=None
    ):
        image, mask = draw_orthophoto(size_px, np.random.default_rng([seed, number]))
        x, y = _SYNTHETIC_ORIGIN
        place = north_up(x + number * size_px * GSD_M, y, GSD_M)
        whole = Window(0, 0, size_px, size_px)
        write = partial(
            write_geotiff, height=size_px, width=size_px, block_px=256, crs=_SYNTHETIC_CRS,
            transform=place,
        )  # fmt: skip
        name = f"drawn_{number:02d}.tif"
        with write(folder / "images" / name, bands=3) as writer:
            writer.write(image, whole)
        with write(
            folder / "masks" / name, bands=1, nodata=IGNORE_INDEX, palette=palette
        ) as writer:
            writer.write(mask[np.newaxis], whole)


def find_source(card: DatasetCard, name: str, source: Path) -> Path | None:
    """Find the card's files on disk.

    Args:
        card: the dataset's card.
        name: what the dataset is called.
        source: an archive; or a folder that holds the images, or an archive, or a folder of the
            dataset's name that holds either.

    Returns:
        A folder with images, an archive, or None where `source` holds neither.

    Raises:
        ValueError: `source` is a file but no archive.
        FileNotFoundError: `source` does not exist.
    """
    if source.is_file():
        if not source.name.lower().endswith(ARCHIVE_ENDINGS):
            raise ValueError(
                f"source: {source} is a file, wanted a folder or an archive "
                f"({', '.join(ARCHIVE_ENDINGS)})"
            )
        return source
    if not source.is_dir():
        raise FileNotFoundError(f"source: {source} does not exist, wanted a folder or an archive")
    for folder in (source / name, source):
        if next(folder.glob(card.images), None):
            return folder
        if card.download and (folder / Path(card.download.url).name).is_file():
            return folder / Path(card.download.url).name
    return None


def acquire(card: DatasetCard, name: str, source: Path, folder: Path) -> Path:
    """Find a dataset's files, or fetch and unpack them into `folder`.

    Returns:
        The folder that the card's globs begin at: one in `source`, which is only referred to, or
        `folder`.

    Raises:
        ValueError: there is nothing to be found, nor a way to fetch it; the message says how to
            get it by hand.
    """
    found = find_source(card, name, source)
    if found is not None and found.is_dir():
        return found
    if found is None:
        if card.download is None:
            raise ValueError(
                f"source: no file in {source} matches images {card.images!r} of dataset "
                f"{name!r}. {card.instructions or 'Point `source` at the folder that holds them'}"
            )
        found = fetch_archive(card.download.url, card.download.checksum, archive_cache())
    extract_archive(found, folder)
    return folder
