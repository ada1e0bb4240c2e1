"""Orthophotos that a model has not seen: checked against what it was trained on, read as tiles are.

A band order, a scaling or a GSD other than in training makes another land without an error, so
what can be told is checked before any work, and what cannot be told is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.grids import ground_m2
from pointcover.raster import (
    EIGHT_BIT,
    RasterInfo,
    RasterReader,
    ResampledReader,
    Window,
)
from pointcover.tiles import TileSet
from pointcover.windows import LEAST_PX, STRIDE_PX

SAME_GSD: Final = 0.01
"""By what share what a user says of a GSD may differ from what the file says."""


@dataclass(frozen=True)
class ReadingSettings:
    """What a user says of images where the files do not, or otherwise than in training."""

    bands: tuple[int, ...] | None = None
    """Band numbers from 1 in the order of the model; by default those of its training images."""
    value_range: tuple[float, float] | None = None
    """Which values become 0 and 255; by default as in training."""
    gsd_m: float | None = None
    """Of images that do not tell it."""
    resample: bool = False
    """Bring an image to the nearest GSD of training, where its own is another."""


def parse_reading(
    bands: str | None, value_range: str | None, gsd_m: float | None, resample: bool
) -> ReadingSettings:
    """Read what a user types of images; see `parse_bands` and `parse_range`."""
    return ReadingSettings(
        parse_bands(bands) if bands else None, parse_range(value_range) if value_range else None,
        gsd_m, resample,
    )  # fmt: skip


def parse_bands(text: str) -> tuple[int, ...]:
    """Turn ``"3,2,1"`` into band numbers.

    Raises:
        ValueError: it is no list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--bands: got {text!r}, wanted band numbers from 1, such as 3,2,1"
        ) from None


def parse_range(text: str) -> tuple[float, float]:
    """Turn ``"0,2047"`` into two values.

    Raises:
        ValueError: it is not two numbers.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--value-range: got {text!r}, wanted two numbers, such as 0,2047"
        ) from None
    return low, high


@dataclass(frozen=True)
class Orthophoto:
    """An image that fits a model, and the grid of its map."""

    reader: RasterReader
    grid: RasterInfo
    bands: tuple[int, ...]
    value_range: tuple[float, float]
    gsd_m: float | None
    """Of the grid, where it is known."""
    remarks: tuple[str, ...]
    """What a user should know of it: what could not be checked, what was changed."""

    def read_rows(
        self, top: int, bottom: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read whole rows: (bands, rows, W) uint8, 0 without data, and (rows, W): has data.

        Raises:
            ValueError: the file is damaged there.
        """
        window = Window(0, top, self.grid.width, bottom - top)
        return self.reader.read_scaled(window, self.bands, self.value_range)


def open_orthophoto(
    path: Path, trained: Sequence[TileSet], settings: ReadingSettings
) -> Orthophoto:
    """Check an image against what models were trained on, and prepare to read it.

    Args:
        path: of the image.
        trained: the tile sets of the models; bands and value range of all are those of the first.
        settings: what a user says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no whole raster, or does not fit; the message says what to do.
    """
    reader = RasterReader(path)
    info = reader.info()
    bands = _choose_bands(reader, info, trained[0], settings)
    value_range = _choose_range(reader, info, bands, trained[0], settings)
    reader.check_whole()
    remarks = []
    if info.crs is None:
        remarks.append(f"{path} has no CRS, so its map has none either")
    gsd_m = _gsd_of(info)
    if gsd_m and settings.gsd_m and abs(settings.gsd_m / gsd_m - 1) > SAME_GSD:
        raise ValueError(
            f"{path} has a GSD of {_show(gsd_m)} itself, but --gsd-m says {_show(settings.gsd_m)}: "
            f"leave --gsd-m away, or mend the file"
        )
    gsd_m = gsd_m or settings.gsd_m
    wanted_m = _check_gsd(path, gsd_m, trained, settings, remarks)
    if gsd_m is None or wanted_m is None:
        return Orthophoto(reader, info, bands, value_range, gsd_m, tuple(remarks))
    height, width = (max(1, round(size * gsd_m / wanted_m)) for size in (info.height, info.width))
    resampled = ResampledReader(path, height, width)
    remarks.append(
        f"{path} is resampled from {_show(gsd_m)} to {_show(wanted_m)}: its map has "
        f"{height} × {width} px over the same extent"
    )
    return Orthophoto(resampled, resampled.info(), bands, value_range, wanted_m, tuple(remarks))


def spread_windows(
    orthophotos: Sequence[Orthophoto], size_px: int, count: int = 32
) -> list[npt.NDArray[np.uint8]]:
    """Read windows that lie side by side, spread over all images: a sample of what they show.

    Args:
        orthophotos: to read from.
        size_px: height and width of a window, cut to the image and to multiples of STRIDE_PX.
        count: how many at most; each holds some data.

    Returns:
        windows (bands, H, W) uint8.

    Raises:
        ValueError: a file is damaged, or no image has data in a window of 64 px at least.
    """
    places = []
    for orthophoto in orthophotos:
        sides = [orthophoto.grid.height, orthophoto.grid.width]
        height, width = (min(size_px, side) // STRIDE_PX * STRIDE_PX for side in sides)
        if min(height, width) >= LEAST_PX:
            places += [
                (orthophoto, Window(left, top, width, height))
                for top in range(0, sides[0] - height + 1, height)
                for left in range(0, sides[1] - width + 1, width)
            ]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))
    windows = []
    for orthophoto, window in (places[number] for number in chosen):
        values, valid = orthophoto.reader.read_scaled(
            window, orthophoto.bands, orthophoto.value_range
        )
        if valid.any():
            windows.append(values)
    if not windows:
        raise ValueError(
            f"{', '.join(str(each.reader.path) for each in orthophotos)}: found no window of "
            f"{LEAST_PX} px or more with data, give larger images"
        )
    return windows


def _choose_bands(
    reader: RasterReader, info: RasterInfo, trained: TileSet, settings: ReadingSettings
) -> tuple[int, ...]:
    if info.has_palette:
        raise ValueError(
            f"{info.path} is a palette image, wanted bands {_list(trained.bands)}: expand it with "
            f"`gdal_translate -expand rgb`"
        )
    bands = settings.bands or trained.bands
    if len(bands) != len(trained.bands):
        raise ValueError(
            f"--bands names {len(bands)} band(s), but the model was trained on "
            f"{len(trained.bands)} ({_list(trained.bands)} of its images): name as many"
        )
    if min(bands) < 1 or max(bands) > info.bands:
        raise ValueError(
            f"{info.path} has {info.bands} band(s), but bands {_list(bands)} are to be read, "
            f"{'as --bands says' if settings.bands else 'as in training'}: give an image with "
            f"these, or say with --bands which of its bands they are"
        )
    alpha = [band for band in bands if band in reader.alpha_bands()]
    if alpha:
        raise ValueError(
            f"{info.path}: band {alpha[0]} is its alpha band, but bands {_list(bands)} are to be "
            f"read: say with --bands which of its bands the model's are"
        )
    return bands


def _choose_range(
    reader: RasterReader, info: RasterInfo, bands: Sequence[int], trained: TileSet,
    settings: ReadingSettings,
) -> tuple[float, float]:  # fmt: skip
    if settings.value_range is not None:
        low, high = settings.value_range
        if not low < high:
            raise ValueError(f"--value-range: got {low:g},{high:g}, wanted the lower value first")
        return settings.value_range
    low, high = trained.value_range
    dtypes = {reader.dataset.dtypes[band - 1] for band in bands}
    if dtypes == {"uint8"} and high <= 255:
        return trained.value_range
    if "uint8" not in dtypes and trained.value_range != EIGHT_BIT:
        return trained.value_range
    raise ValueError(
        f"{info.path} holds {', '.join(sorted(dtypes))}, but the model was trained on values of "
        f"{low:g} to {high:g}: say with --value-range LOW,HIGH which values of this image are as "
        f"dark and as bright as those"
    )


def _gsd_of(info: RasterInfo) -> float | None:
    """Give the GSD in metres, on the ground where the CRS is in degrees."""
    if info.pixel_m2 is not None:
        return float(np.sqrt(info.pixel_m2))
    area_m2 = ground_m2(info, np.array([info.height // 2]))
    return None if area_m2 is None else float(np.sqrt(area_m2[0]))


def _check_gsd(
    path: Path, gsd_m: float | None, trained: Sequence[TileSet], settings: ReadingSettings,
    remarks: list[str],
) -> float | None:  # fmt: skip
    """Compare a GSD with those of training; give the one to resample to, if any.

    Raises:
        ValueError: it is another, and resampling is not asked for, or would not serve all models.
    """
    known = [tile_set for tile_set in trained if tile_set.gsds_m]
    if gsd_m is None:
        if known:
            remarks.append(
                f"the GSD of {path} is not known, so it is not compared with that of training "
                f"({_range(known[0].gsds_m)}): say it with --gsd-m"
            )
        return None
    if not known:
        remarks.append(
            f"the GSD of {path} ({_show(gsd_m)}) is not compared with that of training, which the "
            f"model does not know"
        )
        return None
    unfit = next((one.gsds_m for one in known if not one.knows_gsd(gsd_m)), None)
    if unfit is None:
        return None
    if not settings.resample:
        raise ValueError(
            f"{path} has a GSD of {_show(gsd_m)}, but the model was trained on {_range(unfit)}: "
            f"say --resample to have the image brought to that, or take a model of its GSD"
        )
    wanted_m = float(np.clip(gsd_m, min(unfit), max(unfit)))
    if not all(one.knows_gsd(wanted_m) for one in known):
        ranges = " and ".join(_range(one.gsds_m) for one in known)
        raise ValueError(
            f"the models were trained on GSDs of {ranges}: no GSD serves all of them, leave one out"
        )
    return wanted_m


def _range(gsds_m: Sequence[float]) -> str:
    if len(gsds_m) == 1:
        return _show(gsds_m[0])
    return f"{min(gsds_m):.4g} to {_show(max(gsds_m))}"


def _show(gsd_m: float) -> str:
    return f"{gsd_m:.4g} m"


def _list(bands: Sequence[int]) -> str:
    return ",".join(str(band) for band in bands)
