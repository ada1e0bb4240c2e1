"""Streaming: a network's scores over a raster of any size, in the memory of a few rows of windows.

One thread reads and decodes the next rows while the network looks at these; whoever takes the
strips writes them in another. Where windows lie and what a batch holds depends on the raster
alone, so a map that was begun at any strip has the same bytes.
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
from pointcover.prediction.windows import Axis, lay_axis
from pointcover.raster.raster_io import mirror, pad
from pointcover.runtime.parallel import one_ahead

Score = Callable[[Tensor], Tensor]
"""Class probabilities (B, C, H, W) float32 of images (B, bands, H, W) uint8, H and W multiples of
32, on the device of the images."""

Rows = tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
"""A row of windows: its number, its image (bands, size, reach) and where that has data (size,
reach), as far as its windows reach."""

Strip = tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]
"""A strip's number, its layers (layers, rows, W) and where the image has data (rows, W)."""

NEAR_PX: Final = 16
"""Pixels left and right of a seam at which two windows are compared."""

BLOCK_PX: Final = 2048
"""Columns of a strip that are averaged at a time."""

PERCENT: Final = 100
"""Probabilities and entropies are kept as whole percents, so that one byte and a GIS show them."""


class Source(Protocol):
    """What can be read by whole rows."""

    def read_rows(
        self, top: int, bottom: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Read (bands, rows, W) uint8, and (rows, W) bool: has data."""


class Layers(Protocol):
    """What of a network's scores a strip holds."""

    def count(self, classes: int) -> int:
        """Count the layers."""

    def describe(self, scores: Tensor) -> Tensor:
        """Turn scores (B, C, H, W) into layers (B, layers, H, W) uint8, 254 at most."""


@dataclass(frozen=True)
class LayerChoice:
    """Which layers a map has, after the class and the confidence in it."""

    entropy: bool = False
    probabilities: bool = False

    def count(self, classes: int) -> int:
        """Count the layers."""
        return 2 + self.entropy + classes * self.probabilities

    def describe(self, scores: Tensor) -> Tensor:
        """Turn class probabilities into the layers of a map.

        Args:
            scores: (B, C, H, W) float32, which sum to 1 over the classes.

        Returns:
            (B, layers, H, W) uint8: class id, confidence, then entropy and probabilities where
            wanted; percents are rounded, an entropy of 100 % is that of classes all alike.
        """
        confidence, class_ids = scores.max(dim=1, keepdim=True)
        found = [class_ids.to(torch.uint8), _percent(confidence)]
        if self.entropy:
            found.append(_percent(entropy_of(scores)))
        if self.probabilities:
            found.append(_percent(scores))
        return torch.cat(found, dim=1)


@dataclass
class SeamCount:
    """How often two windows say the same of the pixels near the seam between them.

    Where it is not the same, the map depends on where windows fall.
    """

    pixels: int = 0
    """With data, at most NEAR_PX from a seam between a window and the one to its right."""
    unlike: int = 0
    """Of these, how many have another class in the one than in the other."""

    def add(
        self,
        left: npt.NDArray[np.uint8],
        right: npt.NDArray[np.uint8],
        valid: npt.NDArray[np.bool_],
    ) -> None:
        """Compare the class ids of two windows, and where there is data: (rows, columns) each."""
        self.pixels += int(np.count_nonzero(valid))
        self.unlike += int(np.count_nonzero((left != right) & valid))


@dataclass(frozen=True)
class Plan:
    """Which windows a raster is looked at through, and how they become one map."""

    rows: Axis
    columns: Axis
    blend: bool
    """Average probabilities where windows overlap, instead of keeping each one's centre."""

    @property
    def cuts(self) -> tuple[int, ...]:
        """Where strips begin, and the last one ends.

        A strip is complete after its row of windows: with blending the next row has a say from
        where it begins.
        """
        return (*self.rows.starts, self.rows.length) if self.blend else self.rows.cuts

    def first_row(self, strip: int) -> int:
        """Return the first row of windows that a strip needs."""
        if not self.blend:
            return strip
        reaches = (row for row, end in enumerate(self.rows.ends) if end > self.cuts[strip])
        return min(next(reaches), strip)


def plan_windows(height: int, width: int, window_px: int, overlap: float, blend: bool) -> Plan:
    """Lay windows over a raster; see `lay_axis` for what the values may be."""
    return Plan(lay_axis(height, window_px, overlap), lay_axis(width, window_px, overlap), blend)


@torch.inference_mode()
def stream_strips(
    source: Source,
    plan: Plan,
    score: Score,
    classes: int,
    layers: Layers,
    *,
    batch_size: int,
    device: torch.device,
    first: int = 0,
    seams: SeamCount | None = None,
) -> Generator[tuple[int, npt.NDArray[np.uint8]], None, None]:
    """Return a map strip by strip, from top to bottom.

    Args:
        source: what to map.
        plan: the windows over it.
        score: the network, or several.
        classes: how many classes it knows.
        layers: what a strip holds.
        batch_size: windows at a time.
        device: where `score` computes.
        first: number of the strip to begin with.
        seams: gets what windows say of each other's pixels, where the first layer is the class and
            windows are not blended.

    Yields:
        the strip's number and its layers, (layers, rows, W) uint8: class ids, confidence in
        percent, then those of `layers` in percent; all IGNORE_INDEX where there is no data.
    """
    make = _blended if plan.blend else partial(_centred, seams=seams)
    with closing(one_ahead(_rows_of_windows(source, plan, plan.first_row(first)))) as rows:
        for number, strip, valid in make(rows, plan, score, classes, layers, batch_size, device):
            if number >= first:
                strip[:, ~valid] = IGNORE_INDEX
                yield number, strip


def _rows_of_windows(source: Source, plan: Plan, first: int) -> Iterator[Rows]:
    """Read rows of windows; what one shares with the next is read once.

    What is read at a time does not depend on `first`: resampling could give other bytes.
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
    """Mirror a raster at its edges where windows reach beyond it; what is added is no data."""
    image = mirror(image, height, width)
    return image, pad(valid, image.shape[1], image.shape[2], False)


def _scores(
    rows: Rows, plan: Plan, score: Score, batch_size: int, device: torch.device
) -> Iterator[tuple[list[int], Tensor]]:
    """Score a row's windows that have data: the windows' numbers and their (B, C, H, W)."""
    _, image, valid = rows
    size = plan.columns.size
    has_data = np.asarray(valid.any(axis=0))
    seen = [
        number
        for number, left in enumerate(plan.columns.starts)
        if has_data[left : left + size].any()
    ]
    for at in range(0, len(seen), batch_size):
        numbers = seen[at : at + batch_size]
        lefts = [plan.columns.starts[number] for number in numbers]
        windows = np.stack([image[:, :, left : left + size] for left in lefts])
        yield numbers, score(torch.from_numpy(windows).to(device, non_blocking=True))


def _centred(
    rows_of_windows: Iterator[Rows],
    plan: Plan,
    score: Score,
    classes: int,
    layers: Layers,
    batch_size: int,
    device: torch.device,
    seams: SeamCount | None,
) -> Iterator[Strip]:
    """Keep each window's centre."""
    cuts, across = plan.cuts, plan.columns

    last: dict[int, npt.NDArray[np.uint8]] = {}  # classes of the window to the left, by its number

    def put(
        strip: npt.NDArray[np.uint8],
        valid: npt.NDArray[np.bool_],
        columns: list[int],
        described: Tensor,
    ) -> None:
        """Lay the centres of a batch of windows into a strip."""
        for column, part in zip(columns, described.cpu().numpy(), strict=True):
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
        strip = np.zeros((layers.count(classes), bottom - top, across.length), np.uint8)
        # A batch is waited for when the next one is on its way: a GPU does not stand still.
        waiting: tuple[list[int], Tensor] | None = None
        for columns, scores in _scores(rows, plan, score, batch_size, device):
            described = layers.describe(scores[:, :, top:bottom])
            if waiting:
                put(strip, valid, *waiting)
            waiting = columns, described
        if waiting:
            put(strip, valid, *waiting)
        yield number, strip, valid


def _blended(
    rows_of_windows: Iterator[Rows],
    plan: Plan,
    score: Score,
    classes: int,
    layers: Layers,
    batch_size: int,
    device: torch.device,
) -> Iterator[Strip]:
    """Average the probabilities of windows, each weighing less towards its edge."""
    down, across = plan.rows, plan.columns
    weights = torch.from_numpy(np.outer(down.weights, across.weights))
    total_down, total_across = (torch.from_numpy(axis.total_weights()) for axis in (down, across))
    # Weighted sums from the first row of these windows down to their last.
    sums = torch.zeros(classes, down.size, across.reach)
    for rows in rows_of_windows:
        number, _, valid = rows
        start = down.starts[number]
        for columns, scores in _scores(rows, plan, score, batch_size, device):
            for column, part in zip(columns, scores.cpu() * weights, strict=True):
                left = across.starts[column]
                sums[:, :, left : left + across.size] += part
        height = plan.cuts[number + 1] - start
        strip = np.empty((layers.count(classes), height, across.length), np.uint8)
        for left in range(0, across.length, BLOCK_PX):
            columns_now = slice(left, min(left + BLOCK_PX, across.length))
            weight = total_down[start : start + height, None] * total_across[columns_now]
            mean = sums[None, :, :height, columns_now] / weight
            strip[:, :, columns_now] = layers.describe(mean)[0].numpy()
        yield number, strip, valid[:height, : across.length]
        sums[:, : down.size - height] = sums[:, height:].clone()
        sums[:, down.size - height :] = 0


def entropy_of(scores: Tensor) -> Tensor:
    """Return the entropy of class probabilities, (B, C, H, W) → (B, 1, H, W), at most 1."""
    entropy: Tensor = torch.special.entr(scores).sum(dim=1, keepdim=True)
    return entropy / math.log(scores.shape[1])


def _percent(shares: Tensor) -> Tensor:
    return (shares * PERCENT).round().clamp(0, PERCENT).to(torch.uint8)
