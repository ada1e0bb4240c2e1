"""Check that the values of an image lie in the range that is scaled to 8 bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pointcover.raster.raster_io import EIGHT_BIT, RasterReader, spread_over

MOST_EXTREME: Final = 0.99
"""The fraction of values that become 0 or 255 at which a value range is refused."""

LEAST_FILL: Final = 0.01
"""The fraction of values that one number outside the range has, at which it is warned of."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ValueRange:
    """The values that become 0 and 255."""

    low: float
    high: float
    origin: str
    """How it is set, for messages: "as in training"."""
    remedy: str
    """How to set another one."""


def check_values(reader: RasterReader, bands: Sequence[int], wanted: ValueRange) -> list[str]:
    """Check that an image has values within a value range, in windows spread over it.

    Zeros are left out of the check, since they may be a border without data.

    Returns:
        warnings about a number outside the range that may mean no data.

    Raises:
        ValueError: nearly all values of the image become 0 or 255.
    """
    if (wanted.low, wanted.high) == EIGHT_BIT and str(reader.dataset.dtypes[0]) == "uint8":
        return []
    values = _sample_values(reader, bands)
    found = values[values != 0]
    low, high = wanted.low, wanted.high
    scaled = np.rint((found - low) * (255 / (high - low)))
    extreme = float(((scaled <= 0) | (scaled >= 255)).mean()) if len(found) else 0.0
    if extreme >= MOST_EXTREME:
        raise ValueError(
            f"{reader.path} has values of {found.min():g} to {found.max():g}, and {extreme:.0%} of "
            f"them become black or white, since {low:g} is black and {high:g} is white "
            f"{wanted.origin}: {wanted.remedy}"
        )
    return _warn_of_fill(reader, values, wanted)


def _warn_of_fill(reader: RasterReader, values: Values, wanted: ValueRange) -> list[str]:
    """Return a warning about the smallest or greatest value, where it is outside and frequent."""
    found = []
    for value, shown in ((values.min(initial=0), "black"), (values.max(initial=0), "white")):
        part = float((values == value).mean()) if len(values) else 0.0
        if part >= LEAST_FILL and not wanted.low <= value <= wanted.high:
            found.append(
                f"{reader.path} has the value {value:g} in {part:.0%} of its pixels, which becomes "
                f"{shown}: if it means no data, say so with `gdal_edit.py -a_nodata {value:g} FILE`"
            )
    return found


def _sample_values(reader: RasterReader, bands: Sequence[int]) -> Values:
    """Return (n,) values with data from windows spread over an image."""
    parts = []
    for window in spread_over(reader.dataset.height, reader.dataset.width):
        values = reader.read(window, bands)[:, reader.read_valid(window, bands)]
        parts.append(values[np.isfinite(values)].astype(np.float64))
    return np.concatenate(parts)
