"""Acquire the files of a dataset: synthesise, find in `source`, or download them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pointcover.datasets.archives import extract_archive
from pointcover.datasets.card import DatasetCard, Download
from pointcover.datasets.downloads import archive_cache, fetch_archive, parse_checksum
from pointcover.datasets.synthetic.landscape import draw_orthophoto
from pointcover.datasets.synthetic.settings import SyntheticSettings
from pointcover.datasets.synthetic.sheet import GSD_M
from pointcover.labels import IGNORE_INDEX
from pointcover.raster.grids import north_up
from pointcover.raster.raster_io import GeoTiffProfile, Window, write_geotiff
from pointcover.runtime.atomic_files import digest
from pointcover.runtime.progress import show_progress

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_SYNTHETIC_CRS = "EPSG:2180"
_SYNTHETIC_ORIGIN = (500_000.0, 500_000.0)


def draw_dataset(card: DatasetCard, folder: Path, settings: SyntheticSettings) -> None:
    """Write the synthetic dataset: GeoTIFFs in folder/images and folder/masks, side by side."""
    palette = dict(enumerate(card.class_table().colours))
    size_px = settings.size_px
    whole = Window(0, 0, size_px, size_px)
    for number in show_progress(range(settings.orthophotos), "drawing", "orthophoto"):
        image, mask = draw_orthophoto(size_px, np.random.default_rng([settings.seed, number]))
        x, y = _SYNTHETIC_ORIGIN
        profile = GeoTiffProfile(
            height=size_px,
            width=size_px,
            bands=3,
            block_px=256,
            crs=_SYNTHETIC_CRS,
            transform=north_up(x + number * size_px * GSD_M, y, GSD_M),
        )
        of_mask = replace(profile, bands=1, nodata=IGNORE_INDEX, palette=palette)
        name = f"drawn_{number:02d}.tif"
        with write_geotiff(folder / "images" / name, profile) as writer:
            writer.write(image, whole)
        with write_geotiff(folder / "masks" / name, of_mask) as writer:
            writer.write(mask[np.newaxis], whole)


def find_source(card: DatasetCard, name: str, source: Path) -> Path | None:
    """Find the card's files on disk.

    Args:
        card: the dataset's card.
        name: of the dataset.
        source: an archive, or a folder that holds the images, itself or in a folder of the
            dataset's name.

    Returns:
        A folder with images, the archive, or None where the folder `source` has no images.

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
    return None


def acquire(card: DatasetCard, name: str, source: Path, folder: Path) -> Path:
    """Find a dataset's files, or fetch and unpack them into `folder`.

    Archives in `source` with the names in the card's `download` are verified and used. The others
    are taken from the download cache of the user, or downloaded.

    Returns:
        The folder that the card's globs are relative to: one in `source`, which is not copied, or
        `folder`.

    Raises:
        ValueError: an archive is damaged; or nothing was found and the card has no download: the
            message says how to get the files by hand.
        ConnectionError: an archive cannot be fetched.
    """
    found = find_source(card, name, source)
    if found is not None and found.is_dir():
        return found
    if found is None and not card.download:
        raise ValueError(
            f"source: no file in {source} matches images {card.images!r} of dataset {name!r}. "
            f"{card.instructions or 'Point `source` at the folder that holds them'}"
        )
    if found is not None:
        # An archive with its published name must have the checksum; others are not checked.
        for download in card.download:
            if download.file_name == found.name:
                require_checksum(found, download.checksum)
        archives = [found]
    else:
        archives = [_find_or_fetch(download, name, source) for download in card.download]
    if len(archives) == 1:
        extract_archive(archives[0], folder)
        return folder
    folder.mkdir(parents=True)
    for number, archive in enumerate(archives):
        aside = folder / f".{number}"
        extract_archive(archive, aside)
        for path in sorted(aside.iterdir()):
            if (folder / path.name).exists():
                raise ValueError(
                    f"{archive} holds {path.name}, as does an archive before it: unpack them by "
                    f"hand, and point `source` at the folder"
                )
            path.rename(folder / path.name)
        aside.rmdir()
    return folder


def _find_or_fetch(download: Download, name: str, source: Path) -> Path:
    for place in (source / name, source):
        archive = place / download.file_name
        if archive.is_file():
            require_checksum(archive, download.checksum)
            return archive
    return fetch_archive(download.url, download.checksum, archive_cache())


def require_checksum(archive: Path, checksum: str) -> None:
    """Check the checksum of an archive.

    Raises:
        ValueError: the checksum differs.
    """
    algorithm, wanted = parse_checksum(checksum)
    got = digest(archive, algorithm)
    if got != wanted:
        raise ValueError(
            f"{archive} has {algorithm} {got}, wanted {wanted}: it is damaged, cut short or "
            f"another version. Download it again, or remove it for pointcover to download"
        )
