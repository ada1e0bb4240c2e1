"""Compute pixel features window by window, with bounded memory for images of any size."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FeatureWindow:
    """A window of an image, and the area that is read to compute its features."""

    rows: slice
    """Rows of the image that the features belong to."""
    cols: slice
    """Columns of the image that the features belong to."""
    read_rows: slice
    """Rows of the image to be read: the window's and a margin, clipped to the image."""
    read_cols: slice
    """Columns of the image to be read."""

    def cut(self, features: Tensor) -> Tensor:
        """Remove the margin from (..., H, W) features of the area that was read."""
        top = self.rows.start - self.read_rows.start
        left = self.cols.start - self.read_cols.start
        height, width = self.rows.stop - self.rows.start, self.cols.stop - self.cols.start
        return features[..., top : top + height, left : left + width]


@dataclass(frozen=True)
class WindowGrid:
    """Windows that cover an image without overlap."""

    height: int
    width: int
    margin_px: int
    """Pixels around a window on which its features depend."""
    alignment_px: int = 1
    """Reading begins at multiples of this."""
    size_px: int = 512
    """Side of a window; those at the lower and right edges may be smaller."""

    def __post_init__(self) -> None:
        """Check that windows begin at multiples of the alignment."""
        if self.size_px < 1 or self.size_px % self.alignment_px:
            raise ValueError(
                f"got windows of {self.size_px} px, wanted a multiple of the features' alignment: "
                f"choose a multiple of {self.alignment_px}"
            )

    def __iter__(self) -> Iterator[FeatureWindow]:
        """Iterate over the windows, row by row."""
        for rows, read_rows in self._along(self.height):
            for cols, read_cols in self._along(self.width):
                yield FeatureWindow(rows, cols, read_rows, read_cols)

    def _along(self, length: int) -> Iterator[tuple[slice, slice]]:
        """Split an axis into windows, each with the range that is read for it."""
        margin = -(-self.margin_px // self.alignment_px) * self.alignment_px
        for start in range(0, length, self.size_px):
            stop = min(start + self.size_px, length)
            read = slice(max(start - margin, 0), min(stop + margin, length))
            yield slice(start, stop), read


def iterate_features(
    compute: Callable[[Tensor], Tensor], read: Callable[[slice, slice], Tensor], grid: WindowGrid
) -> Iterator[tuple[FeatureWindow, Tensor]]:
    """Compute features window by window.

    Args:
        compute: turns (N, bands, H, W) into (N, features, H, W): a FilterBank, an EncoderPyramid,
            or its `project` with weights.
        read: returns (bands, H, W) floating point in 0..1 for rows and columns of the image.
        grid: the windows, with the margin and the alignment of `compute`.

    Yields:
        Windows, and their features (features, H, W).
    """
    for window in grid:
        image = read(window.read_rows, window.read_cols)
        yield window, window.cut(compute(image[None])[0])
