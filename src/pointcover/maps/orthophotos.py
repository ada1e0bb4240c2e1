"""Open orthophotos for mapping: check them against the training images, read them as tiles.

Another band order, scaling or GSD than in training gives wrong maps without an error. So all
metadata of a file are checked before mapping begins, and a remark is made where they are missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.maps.settings import ReadingSettings
from pointcover.prediction.windows import ALIGNMENT_PX, LEAST_PX
from pointcover.raster.grids import gsd_of, pixel_sides_m
from pointcover.raster.raster_io import (
    EIGHT_BIT,
    RasterInfo,
    RasterReader,
    ResampledReader,
    Window,
)
from pointcover.raster.scaling import ValueRange, check_values
from pointcover.tileset.tiles import GSD_TOLERANCE, TileSet

SAME_GSD: Final = 0.01
"""Largest relative difference between two GSDs that count as equal."""

RGB: Final = ("red", "green", "blue")


def parse_reading(
    bands: str | None, value_range: str | None, gsd_m: float | None, resample: bool
) -> ReadingSettings:
    """Return settings for options of the command line; see `parse_bands` and `parse_range`."""
    return ReadingSettings(
        bands=parse_bands(bands) if bands else None,
        value_range=parse_range(value_range) if value_range else None,
        gsd_m=gsd_m,
        resample=resample,
    )


def parse_bands(text: str) -> tuple[int, ...]:
    """Parse a list of band numbers, such as ``"3,2,1"``.

    Raises:
        ValueError: the text is not a list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--bands: got {text!r}, wanted band numbers from 1, such as 3,2,1"
        ) from None


def parse_range(text: str) -> tuple[float, float]:
    """Parse a value range, such as ``"0,2047"``.

    Raises:
        ValueError: the text is not two numbers.
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
    """An image that was checked against the models, and the grid of its map."""

    reader: RasterReader
    grid: RasterInfo
    bands: tuple[int, ...]
    value_range: tuple[float, float]
    gsd_m: float | None
    """Ground sample distance of the grid in metres; None if it is not known."""
    remarks: tuple[str, ...]
    """Messages to the user on checks that were not possible, and on changes to the image."""

    def read_rows(
        self, top: int, bottom: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read whole rows.

        Args:
            top: first row.
            bottom: end of the rows, exclusive.

        Returns:
            (bands, rows, W) uint8, 0 where there is no data, and (rows, W) bool: has data.

        Raises:
            ValueError: the file is damaged there.
        """
        return self.read(Window(0, top, self.grid.width, bottom - top))

    def read(self, window: Window) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read a window.

        Returns:
            (bands, h, w) uint8, 0 where there is no data, and (h, w) bool: has data.

        Raises:
            ValueError: the file is damaged there.
        """
        return self.reader.read_scaled(window, self.bands, self.value_range)


def open_orthophoto(
    path: Path, trained: Sequence[TileSet], settings: ReadingSettings
) -> Orthophoto:
    """Check an image against the models' training images, and open it for reading.

    Args:
        path: of the image.
        trained: the tile sets of the models; all have the same bands and value range.
        settings: how the image is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a complete raster, or does not match the training images.
    """
    reader = source = RasterReader(path)
    info = reader.info()
    bands = _choose_bands(reader, info, trained[0], settings)
    value_range = _choose_range(reader, info, bands, trained[0], settings)
    reader.check_whole()
    remarks = check_values(
        reader,
        bands,
        ValueRange(
            *value_range,
            "as set by --value-range" if settings.value_range else "as in training",
            "set with --value-range LOW,HIGH the values that correspond to those of training",
        ),
    )
    if info.warp_advice:
        remarks.append(f"{info.warp_advice}; its map would have no place")
    elif info.crs is None:
        remarks.append(f"{path} has no CRS, so its map has none either")
    remarks += reader.warn_of_alpha(bands, "--bands")
    _remark_on_colours(reader, bands, trained[0], settings, remarks)
    gsd_m, sides_m = pixel = _measure_gsd(info, settings)
    wanted_m = _check_gsd(path, pixel, trained, settings, remarks)
    height, width = info.height, info.width
    if wanted_m is not None and sides_m is not None:
        height, width = (
            max(1, round(size * side_m / wanted_m))
            for size, side_m in zip((height, width), sides_m, strict=True)
        )
        remarks.append(
            f"{path} is resampled from {_show_sides(gsd_m, sides_m)} to {_show(wanted_m)}: "
            f"{height} × {width} px over the same extent"
        )
        gsd_m = wanted_m
        reader = ResampledReader(path, height, width, bands=bands)
    if missing := source.missing_blocks(bands):
        remarks.append(
            f"{path}: blocks with {missing.fraction(info.height, info.width):.1%} of its pixels "
            f"were never written, and hold no data. If they should hold data, copy the image again"
        )
    return Orthophoto(reader, reader.info(), bands, value_range, gsd_m, tuple(remarks))


def spread_windows(
    orthophotos: Sequence[Orthophoto], size_px: int, count: int = 32
) -> list[npt.NDArray[np.uint8]]:
    """Read a sample of windows that do not overlap, spread evenly over all images.

    Args:
        orthophotos: to read from.
        size_px: height and width of a window; reduced to the size of the image, and to a multiple
            of ALIGNMENT_PX.
        count: maximum number of windows. Windows without data are left out.

    Returns:
        windows (bands, H, W) uint8.

    Raises:
        ValueError: a file is damaged, or no window of at least 64 px has data.
    """
    places = []
    for orthophoto in orthophotos:
        sides = [orthophoto.grid.height, orthophoto.grid.width]
        height, width = (min(size_px, side) // ALIGNMENT_PX * ALIGNMENT_PX for side in sides)
        if min(height, width) >= LEAST_PX:
            places += [
                (orthophoto, Window(left, top, width, height))
                for top in range(0, sides[0] - height + 1, height)
                for left in range(0, sides[1] - width + 1, width)
            ]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))
    windows = []
    for orthophoto, window in (places[number] for number in chosen):
        values, valid = orthophoto.read(window)
        if valid.any():
            windows.append(values)
    if not windows:
        raise ValueError(
            f"{', '.join(str(each.reader.path) for each in orthophotos)}: found no window of "
            f"{LEAST_PX} px or more with data: use larger images"
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
            f"{len(trained.bands)} ({_list(trained.bands)} of its images): name the same number"
        )
    if min(bands) < 1 or max(bands) > info.bands:
        raise ValueError(
            f"{info.path} has {info.bands} band(s), but bands {_list(bands)} are to be read, "
            f"{'as set by --bands' if settings.bands else 'as in training'}: use an image with "
            f"these bands, or set the bands to read with --bands"
        )
    alpha = [band for band in bands if band in reader.alpha_bands() and reader.is_mask(band)]
    if alpha and not settings.bands:
        raise ValueError(
            f"{info.path}: band {alpha[0]} is its alpha band, with 0 and 255 alone, but bands "
            f"{_list(bands)} are to be read: set the bands to read with --bands"
        )
    return bands


def _choose_range(
    reader: RasterReader,
    info: RasterInfo,
    bands: Sequence[int],
    trained: TileSet,
    settings: ReadingSettings,
) -> tuple[float, float]:
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
        f"{low:g} to {high:g}: set with --value-range LOW,HIGH the values of this image that "
        f"correspond to these"
    )


def _remark_on_colours(
    reader: RasterReader,
    bands: Sequence[int],
    trained: TileSet,
    settings: ReadingSettings,
    remarks: list[str],
) -> None:
    """Add a remark if the file's colour interpretation is not red, green, blue.

    Models do not record the colours of training bands, but bands 1,2,3 are nearly always red,
    green, blue.
    """
    kinds = reader.colours()
    called = [kinds[band - 1] for band in bands[:3]]
    if (
        settings.bands
        or trained.bands[:3] != (1, 2, 3)
        or not any(kind in RGB and kind != usual for kind, usual in zip(called, RGB, strict=True))
    ):
        return
    advice = "the bands to read with --bands"
    if all(colour in kinds for colour in RGB):
        first = [kinds.index(colour) + 1 for colour in RGB]
        order = first + [band for band in bands if band not in first]
        advice = f"--bands {_list(order[: len(bands)])}"
    remarks.append(
        f"{reader.path} declares its bands as {', '.join(kinds)}, and the model reads "
        f"{_list(bands)} as in training: if those were red, green, blue, set {advice}"
    )


_PixelSize = tuple[float | None, tuple[float, float] | None]
"""The GSD, and a pixel's height and width, in metres; None where they are not known."""


def _measure_gsd(info: RasterInfo, settings: ReadingSettings) -> _PixelSize:
    """Return the GSD, and a pixel's height and width, in metres; None where they are not known.

    Raises:
        ValueError: the GSD of the settings is not that of the file.
    """
    gsd_m, sides_m = gsd_of(info), pixel_sides_m(info)
    given_m = settings.gsd_m
    if gsd_m and given_m and abs(given_m / gsd_m - 1) > SAME_GSD:
        raise ValueError(
            f"{info.path} has a GSD of {_show(gsd_m)} by its CRS, but --gsd-m is "
            f"{_show(given_m)}: omit --gsd-m, or correct the file"
        )
    gsd_m = gsd_m or given_m
    if gsd_m is None:
        return None, None
    if sides_m is None or max(sides_m) / min(sides_m) <= 1 + SAME_GSD:
        return gsd_m, (gsd_m, gsd_m)
    return gsd_m, sides_m


def _check_gsd(
    path: Path,
    pixel: _PixelSize,
    trained: Sequence[TileSet],
    settings: ReadingSettings,
    remarks: list[str],
) -> float | None:
    """Compare a GSD with those of training; return the one to resample to, or None.

    Raises:
        ValueError: the GSD differs or pixels are not square, and `resample` is not set; or no GSD
            matches all models.
    """
    known = [tile_set for tile_set in trained if tile_set.gsds_m]
    gsd_m, sides_m = pixel
    if gsd_m is None or sides_m is None:
        if known:
            remarks.append(
                f"the GSD of {path} is not known, so it is not compared with that of training "
                f"({known[0].show_gsds()}): set it with --gsd-m"
            )
        return None
    if not known:
        remarks.append(
            f"the GSD of {path} ({_show(gsd_m)}) is not compared with that of training, which the "
            f"model does not record"
        )
        if max(sides_m) / min(sides_m) > GSD_TOLERANCE:
            remarks.append(
                f"the pixels of {path} are not square ({_show_sides(gsd_m, sides_m)}); those of "
                f"training most likely were"
            )
        return None
    is_square = max(sides_m) / min(sides_m) <= GSD_TOLERANCE
    other = next((one for one in known if not one.knows_gsd(gsd_m)), None)
    if other is None:
        if is_square:
            return None
        other = known[0]
    if not settings.resample:
        raise ValueError(
            f"{path} has a GSD of {_show_sides(gsd_m, sides_m)}, but the model was trained on "
            f"{other.show_gsds()}{'' if is_square else ' both ways'}: use --resample to resample "
            f"the image to that, or use a model of its GSD"
        )
    wanted_m = float(np.clip(gsd_m, min(other.gsds_m), max(other.gsds_m)))
    if not all(one.knows_gsd(wanted_m) for one in known):
        ranges = " and ".join(one.show_gsds() for one in known)
        raise ValueError(
            f"the models were trained on GSDs of {ranges}: no GSD suits all of them, omit a model"
        )
    return wanted_m


def _show_sides(gsd_m: float | None, sides_m: tuple[float, float]) -> str:
    """Format a GSD, or height and width of a pixel that is not square."""
    if max(sides_m) / min(sides_m) <= 1 + SAME_GSD:
        return _show(gsd_m or sides_m[0])
    return f"{sides_m[0]:.4g} m down and {_show(sides_m[1])} across"


def _show(gsd_m: float) -> str:
    return f"{gsd_m:.4g} m"


def _list(bands: Sequence[int]) -> str:
    return ",".join(str(band) for band in bands)
