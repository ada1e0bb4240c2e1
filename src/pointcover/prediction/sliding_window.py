"""Predict a raster of any size in sliding windows, with only a few rows of windows in memory.

One thread reads and decodes the next row of windows while the network computes; the caller may
write strips in another. Positions of windows and contents of batches depend only on the raster, so
a map that is resumed at any strip has the same bytes.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from pointcover.labels import IGNORE_INDEX
from pointcover.prediction.windows import Axis, lay_axis
from pointcover.raster.raster_io import mirror, pad
from pointcover.runtime.parallel import one_ahead

Part = tuple[slice, slice]
"""Rows and columns of a window."""

Rows = tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
"""A row of windows: its number, its image (bands, size, reach), and whether that has data (size,
reach); reach is the end of the last window."""

Strip = tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
"""A strip's number, its layers (layers, rows, W), and whether the image has data (rows, W)."""

NEAR_PX: Final = 16
"""Two windows are compared in this many pixels left and right of their seam."""

AVERAGED_COLUMNS: Final = 2048
"""Columns of a strip that are averaged at a time."""


class Source(Protocol):
    """A raster that can be read by whole rows."""

    def read_rows(
        self, top: int, bottom: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Return (bands, rows, W) uint8, and (rows, W) bool: has data."""


@dataclass
class SeamCount:
    """Number of pixels near seams, and of those where two windows predict different classes."""

    pixels: int = 0
    """Pixels with data, at most NEAR_PX from a seam between a window and the one to its right."""
    unlike: int = 0
    """Pixels of these with different classes in the two windows."""

    def add(
        self,
        left: npt.NDArray[np.uint8],
        right: npt.NDArray[np.uint8],
        valid: npt.NDArray[np.bool_],
    ) -> None:
        """Count the pixels with data, and with different class ids: (rows, columns) each."""
        self.pixels += int(np.count_nonzero(valid))
        self.unlike += int(np.count_nonzero((left != right) & valid))


@dataclass(frozen=True)
class Plan:
    """The windows over a raster, and how they are merged to one map."""

    rows: Axis
    columns: Axis
    blend: bool
    """Average probabilities where windows overlap, instead of keeping the centre of each window."""

    @property
    def cuts(self) -> tuple[int, ...]:
        """First row of each strip, and the end of the last one.

        A strip is complete after its row of windows. With blending it therefore ends where the
        next row of windows begins.
        """
        return (*self.rows.starts, self.rows.length) if self.blend else self.rows.cuts

    def first_row(self, strip: int) -> int:
        """Return the first row of windows that a strip needs."""
        if not self.blend:
            return strip
        reaches = (row for row, end in enumerate(self.rows.ends) if end > self.cuts[strip])
        return min(next(reaches), strip)


def plan_windows(height: int, width: int, window_px: int, overlap: float, blend: bool) -> Plan:
    """Return the windows over a raster; see `lay_axis` for the arguments."""
    return Plan(lay_axis(height, window_px, overlap), lay_axis(width, window_px, overlap), blend)


class Inference(Protocol):
    """How windows are scored, and which layers of the scores are kept.

    Scores are (B, C, H, W) arrays of the library that computes them, on its device.
    """

    @property
    def channels(self) -> int:
        """Channels of the scores: the classes, and further values of the score."""

    @property
    def layers_count(self) -> int:
        """Layers that are computed from the scores and kept."""

    @property
    def batch_size(self) -> int:
        """Windows that are scored at a time."""

    @property
    def parts_at_a_time(self) -> int:
        """Windows of which a part is scored at a time; 0 where whole ones take no longer."""

    def score(self, windows: npt.NDArray[Any], parts: Sequence[Part] | None) -> Any:
        """Return the scores of windows (B, bands, H, W), with sides of multiples of 32 px.

        Args:
            windows: to score.
            parts: the rows and columns of each that are kept, or None for all.
        """

    def encode(self, scores: Any) -> Any:
        """Convert scores to layers (B, layers, H, W) of bytes, 254 at most, on their device."""

    def encode_mean(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Convert averaged scores to layers, as `encode` does."""

    def fetch(self, values: Any) -> npt.NDArray[Any]:
        """Return scores or layers as an array of numpy."""


def stream_strips(
    source: Source,
    plan: Plan,
    inference: Inference,
    *,
    first: int = 0,
    seams: SeamCount | None = None,
) -> Generator[tuple[int, npt.NDArray[np.uint8]], None, None]:
    """Yield a map strip by strip, from top to bottom.

    Args:
        source: the raster to map.
        plan: the windows over it.
        inference: the network, and the layers of a strip.
        first: number of the first strip to yield.
        seams: counts pixels where windows disagree. This needs the class as the first layer, and
            windows that are not blended.

    Yields:
        the strip's number and its layers, (layers, rows, W) uint8, IGNORE_INDEX where there is no
        data.
    """
    make = _blended if plan.blend else partial(_centred, seams=seams)
    with closing(one_ahead(_rows_of_windows(source, plan, plan.first_row(first)))) as rows:
        for number, strip, valid in make(rows, plan, inference):
            if number >= first:
                strip[:, ~valid] = IGNORE_INDEX
                yield number, strip


def _rows_of_windows(source: Source, plan: Plan, first: int) -> Iterator[Rows]:
    """Yield rows of windows; raster rows that two of them have in common are read once.

    The rows that are read at a time do not depend on `first`, since resampling could otherwise
    give other bytes.
    """
    axis = plan.rows
    reads = (0, *axis.ends)
    at = max(n for n, end in enumerate(reads[:-1]) if end <= axis.starts[first])
    top = reads[at]
    image, valid = source.read_rows(top, reads[at + 1])
    for row in range(at, len(axis.starts)):
        if row > at:
            below, below_valid = source.read_rows(reads[row], reads[row + 1])
            image = np.concatenate([image, below], axis=1)
            valid = np.concatenate([valid, below_valid])
        keep = max(0, axis.starts[row] - top)
        if row >= first:
            image, valid, top = image[:, keep:], valid[keep:], top + keep
            yield row, *_extend(image, valid, axis.size, plan.columns.reach)


def _extend(
    image: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], height: int, width: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Mirror a raster at its edges up to the end of the windows; added pixels have no data."""
    image = mirror(image, height, width)
    return image, pad(valid, image.shape[1], image.shape[2], False)


def _scores(rows: Rows, plan: Plan, inference: Inference) -> Iterator[tuple[list[int], Any]]:
    """Yield batches of a row's windows that have data: their numbers and scores."""
    row, image, valid = rows
    size = plan.columns.size
    has_data = np.asarray(valid.any(axis=0))
    seen = [
        number
        for number, left in enumerate(plan.columns.starts)
        if has_data[left : left + size].any()
    ]
    takes_parts = inference.parts_at_a_time and not plan.blend
    step = inference.parts_at_a_time if takes_parts else inference.batch_size
    for at in range(0, len(seen), step):
        numbers = seen[at : at + step]
        lefts = [plan.columns.starts[number] for number in numbers]
        windows = np.stack([image[:, :, left : left + size] for left in lefts])
        parts = None
        if takes_parts:
            down = _kept(plan.rows, row, 0)
            parts = [(down, _kept(plan.columns, number, NEAR_PX)) for number in numbers]
        yield numbers, inference.score(windows, parts)


def _kept(axis: Axis, number: int, near_px: int) -> slice:
    """Return which rows or columns of a window are kept, or compared with its neighbours'."""
    start, end = axis.starts[number], axis.ends[number]
    first, last = axis.cuts[number] - near_px, axis.cuts[number + 1] + near_px
    return slice(max(first, start) - start, min(last, end) - start)


def _centred(
    rows_of_windows: Iterator[Rows],
    plan: Plan,
    inference: Inference,
    seams: SeamCount | None,
) -> Iterator[Strip]:
    """Yield strips of the windows' centres."""
    cuts, across = plan.cuts, plan.columns
    layers = inference.layers_count
    last: dict[int, npt.NDArray[np.uint8]] = {}  # number and classes of the window to the left

    def put(
        strip: npt.NDArray[np.uint8],
        valid: npt.NDArray[np.bool_],
        columns: list[int],
        encoded: Any,
    ) -> None:
        """Copy the centres of a batch of windows to a strip."""
        for column, part in zip(columns, inference.fetch(encoded), strict=True):
            start, left, right = across.starts[column], across.cuts[column], across.cuts[column + 1]
            strip[:, :, left:right] = part[:, :, left - start : right - start]
            if seams is not None and column - 1 in last:
                end, begin = across.ends[column - 1], across.starts[column - 1]
                near = slice(max(start, left - NEAR_PX), min(end, left + NEAR_PX))
                seams.add(
                    last[column - 1][:, near.start - begin : near.stop - begin],
                    part[0, :, near.start - start : near.stop - start],
                    valid[:, near],
                )
            last.clear()
            last[column] = part[0]

    for rows in rows_of_windows:
        number, _, valid = rows
        top, bottom = (cut - plan.rows.starts[number] for cut in cuts[number : number + 2])
        valid = valid[top:bottom, : across.length]
        last.clear()
        strip = np.zeros((layers, bottom - top, across.length), np.uint8)
        # A batch is copied to the CPU after the next one is started, to keep a GPU busy.
        waiting: tuple[list[int], Any] | None = None
        for columns, scores in _scores(rows, plan, inference):
            encoded = inference.encode(scores[:, :, top:bottom])
            if waiting:
                put(strip, valid, *waiting)
            waiting = columns, encoded
        if waiting:
            put(strip, valid, *waiting)
        yield number, strip, valid


def _blended(rows_of_windows: Iterator[Rows], plan: Plan, inference: Inference) -> Iterator[Strip]:
    """Yield strips of mean probabilities, with weights that decrease to the windows' edges."""
    down, across = plan.rows, plan.columns
    weights = np.outer(down.weights, across.weights)
    total_down, total_across = (axis.total_weights() for axis in (down, across))
    # Weighted sums over the rows of the current row of windows.
    sums = np.zeros((inference.channels, down.size, across.reach), np.float32)
    for rows in rows_of_windows:
        number, _, valid = rows
        start = down.starts[number]
        for columns, scores in _scores(rows, plan, inference):
            for column, part in zip(columns, inference.fetch(scores), strict=True):
                left = across.starts[column]
                sums[:, :, left : left + across.size] += part * weights
        height = plan.cuts[number + 1] - start
        strip = np.empty((inference.layers_count, height, across.length), np.uint8)
        for left in range(0, across.length, AVERAGED_COLUMNS):
            columns_now = slice(left, min(left + AVERAGED_COLUMNS, across.length))
            weight = total_down[start : start + height, None] * total_across[columns_now]
            mean = sums[None, :, :height, columns_now] / weight
            strip[:, :, columns_now] = inference.encode_mean(mean)[0]
        yield number, strip, valid[:height, : across.length]
        sums[:, : down.size - height] = sums[:, height:].copy()
        sums[:, down.size - height :] = 0
