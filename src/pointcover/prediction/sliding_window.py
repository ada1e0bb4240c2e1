"""Predict a raster of any size in sliding windows, with only a few rows of windows in memory.

One thread reads and decodes the next row of windows while the network computes; the caller may
write strips in another. Positions of windows and contents of batches depend only on the raster, so
a map that is resumed at any strip has the same bytes.
"""

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.labels import IGNORE_INDEX
from pointcover.prediction.predict import ScoreParts
from pointcover.prediction.settings import LayerSettings
from pointcover.prediction.windows import Axis, lay_axis
from pointcover.raster.raster_io import mirror, pad
from pointcover.runtime.parallel import one_ahead

Score = Callable[[Tensor], Tensor]
"""Class probabilities (B, C, H, W) float32 of images (B, bands, H, W) uint8, H and W multiples of
32, on the device of the images."""

Rows = tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
"""A row of windows: its number, its image (bands, size, reach), and whether that has data (size,
reach); reach is the end of the last window."""

Strip = tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
"""A strip's number, its layers (layers, rows, W), and whether the image has data (rows, W)."""

NEAR_PX: Final = 16
"""Two windows are compared in this many pixels left and right of their seam."""

AVERAGED_COLUMNS: Final = 2048
"""Columns of a strip that are averaged at a time."""

PERCENT: Final = 100
"""Probabilities and entropies are stored as whole percents, which fit in a byte."""


class Source(Protocol):
    """A raster that can be read by whole rows."""

    def read_rows(
        self, top: int, bottom: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Return (bands, rows, W) uint8, and (rows, W) bool: has data."""


class Layers(Protocol):
    """The layers of a strip, as bytes computed from a network's scores."""

    def count(self, classes: int) -> int:
        """Return the number of layers."""

    def encode(self, scores: Tensor) -> Tensor:
        """Convert scores (B, C, H, W) to layers (B, layers, H, W) uint8, 254 at most."""


class MapLayers:
    """The layers of a map: class, confidence, and those of the settings."""

    def __init__(self, settings: LayerSettings) -> None:
        """Set the optional layers."""
        self.settings = settings

    def count(self, classes: int) -> int:
        """Return the number of layers."""
        return 2 + self.settings.entropy + classes * self.settings.probabilities

    def encode(self, scores: Tensor) -> Tensor:
        """Convert class probabilities to the layers of a map.

        Args:
            scores: (B, C, H, W) float32 with a sum of 1 over the classes.

        Returns:
            (B, layers, H, W) uint8: class id, confidence, then entropy and probabilities by the
            settings, in rounded percents. An entropy of 100 % is that of equal probabilities.
        """
        confidence, class_ids = scores.max(dim=1, keepdim=True)
        found = [class_ids.to(torch.uint8), _percent(confidence)]
        if self.settings.entropy:
            found.append(_percent(entropy_of(scores)))
        if self.settings.probabilities:
            found.append(_percent(scores))
        return torch.cat(found, dim=1)


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


@dataclass(frozen=True)
class WindowInference:
    """How windows are scored, and which layers are kept."""

    score: Score
    """Of a network or an ensemble."""
    channels: int
    """Channels of the scores: the classes, and further values of the score."""
    layers: Layers
    """The layers that are computed from the scores and kept."""
    batch_size: int
    """Windows that are scored at a time."""
    device: torch.device
    """Device of `score`."""
    score_parts: ScoreParts | None = None
    """Used instead of `score` where only a part of each window is kept."""


@torch.inference_mode()
def stream_strips(
    source: Source,
    plan: Plan,
    inference: WindowInference,
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


def _scores(
    rows: Rows, plan: Plan, inference: WindowInference
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield batches of a row's windows that have data: their numbers and (B, C, H, W) scores."""
    row, image, valid = rows
    size = plan.columns.size
    has_data = np.asarray(valid.any(axis=0))
    seen = [
        number
        for number, left in enumerate(plan.columns.starts)
        if has_data[left : left + size].any()
    ]
    takes_parts = inference.score_parts is not None and not plan.blend
    # On a CPU pixel classifiers score one window after the other: more would only take memory.
    batch_size = 1 if takes_parts and inference.device.type == "cpu" else inference.batch_size
    for at in range(0, len(seen), batch_size):
        numbers = seen[at : at + batch_size]
        lefts = [plan.columns.starts[number] for number in numbers]
        windows = np.stack([image[:, :, left : left + size] for left in lefts])
        images = torch.from_numpy(windows).to(inference.device, non_blocking=True)
        if inference.score_parts and not plan.blend:
            down = _kept(plan.rows, row, 0)
            parts = [(down, _kept(plan.columns, number, NEAR_PX)) for number in numbers]
            yield numbers, inference.score_parts(images, parts)
        else:
            yield numbers, inference.score(images)


def _kept(axis: Axis, number: int, near_px: int) -> slice:
    """Return which rows or columns of a window are kept, or compared with its neighbours'."""
    start, end = axis.starts[number], axis.ends[number]
    first, last = axis.cuts[number] - near_px, axis.cuts[number + 1] + near_px
    return slice(max(first, start) - start, min(last, end) - start)


def _centred(
    rows_of_windows: Iterator[Rows],
    plan: Plan,
    inference: WindowInference,
    seams: SeamCount | None,
) -> Iterator[Strip]:
    """Yield strips of the windows' centres."""
    cuts, across = plan.cuts, plan.columns
    layers = inference.layers.count(inference.channels)
    last: dict[int, npt.NDArray[np.uint8]] = {}  # number and classes of the window to the left

    def put(
        strip: npt.NDArray[np.uint8],
        valid: npt.NDArray[np.bool_],
        columns: list[int],
        encoded: Tensor,
    ) -> None:
        """Copy the centres of a batch of windows to a strip."""
        for column, part in zip(columns, encoded.cpu().numpy(), strict=True):
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
        waiting: tuple[list[int], Tensor] | None = None
        for columns, scores in _scores(rows, plan, inference):
            encoded = inference.layers.encode(scores[:, :, top:bottom])
            if waiting:
                put(strip, valid, *waiting)
            waiting = columns, encoded
        if waiting:
            put(strip, valid, *waiting)
        yield number, strip, valid


def _blended(
    rows_of_windows: Iterator[Rows], plan: Plan, inference: WindowInference
) -> Iterator[Strip]:
    """Yield strips of mean probabilities, with weights that decrease to the windows' edges."""
    down, across = plan.rows, plan.columns
    weights = torch.from_numpy(np.outer(down.weights, across.weights))
    total_down, total_across = (torch.from_numpy(axis.total_weights()) for axis in (down, across))
    # Weighted sums over the rows of the current row of windows.
    layers = inference.layers.count(inference.channels)
    sums = torch.zeros(inference.channels, down.size, across.reach)
    for rows in rows_of_windows:
        number, _, valid = rows
        start = down.starts[number]
        for columns, scores in _scores(rows, plan, inference):
            for column, part in zip(columns, scores.cpu() * weights, strict=True):
                left = across.starts[column]
                sums[:, :, left : left + across.size] += part
        height = plan.cuts[number + 1] - start
        strip = np.empty((layers, height, across.length), np.uint8)
        for left in range(0, across.length, AVERAGED_COLUMNS):
            columns_now = slice(left, min(left + AVERAGED_COLUMNS, across.length))
            weight = total_down[start : start + height, None] * total_across[columns_now]
            mean = sums[None, :, :height, columns_now] / weight
            strip[:, :, columns_now] = inference.layers.encode(mean)[0].numpy()
        yield number, strip, valid[:height, : across.length]
        sums[:, : down.size - height] = sums[:, height:].clone()
        sums[:, down.size - height :] = 0


def entropy_of(scores: Tensor) -> Tensor:
    """Return the normalised entropy, from 0 to 1, of probabilities: (B, C, H, W) → (B, 1, H, W)."""
    entropy: Tensor = torch.special.entr(scores).sum(dim=1, keepdim=True)
    return entropy / math.log(scores.shape[1])


def _percent(fractions: Tensor) -> Tensor:
    return (fractions * PERCENT).round().clamp(0, PERCENT).to(torch.uint8)
