"""Draw figures: panels of tiles, training curves and evaluation results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.lib.stride_tricks import sliding_window_view

from pointcover.labels import IGNORE_INDEX, ClassTable, Image, Mask, format_colour
from pointcover.runtime.atomic_files import publish_file

Rgb = npt.NDArray[np.uint8]
Fractions = npt.NDArray[np.float32]
"""(H, W) float32 from 0 to 1, drawn with a colour map."""
ItemT = TypeVar("ItemT")

TICK_FORMULA = r"\mathdefault"
"""Part of the labels that matplotlib itself writes as formulas."""

VIEW_INCHES = 3.2
DPI = 100
MOST_COLUMNS = 8
"""Maximum number of columns of a legend."""
LEGEND_ROW_INCHES = 0.17
UNLABELLED_GREY = 235
ERROR_RED = (214, 40, 40)
CORRECT_BLUE = (31, 119, 180)


def spread_evenly(items: Sequence[ItemT], count: int) -> list[ItemT]:
    """Return `count` items, evenly spaced over the sequence; the choice is deterministic."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def view_image(image: Image) -> Rgb:
    """Return (H, W, 3) of (bands, H, W) uint8: the first three bands, or the first one in grey."""
    shown = image[:3] if len(image) >= 3 else image[[0, 0, 0]]
    return np.ascontiguousarray(shown.transpose(1, 2, 0))


def view_mask(mask: Mask, classes: ClassTable) -> Rgb:
    """Return (H, W, 3) of a (H, W) mask: class colours; unlabelled pixels are light grey."""
    shown = classes.paint(mask)
    shown[mask == IGNORE_INDEX] = UNLABELLED_GREY
    return shown


def view_clicks(clicks: Mask, classes: ClassTable) -> Rgb:
    """Return (H, W, 3) of a sparse mask, with each label enlarged to 5 × 5 px to be visible."""
    return view_mask(_enlarge(clicks), classes)


def _enlarge(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Enlarge each pixel below 255 to 5 × 5 px; of two that overlap, the smaller value stays."""
    padded = np.pad(values, 2, mode="edge")
    return np.asarray(sliding_window_view(padded, (5, 5)).min(axis=(2, 3)))


def view_errors(prediction: Mask, mask: Mask) -> Rgb:
    """Return (H, W, 3): wrong pixels are red, correct ones white, unlabelled ones light grey."""
    shown = np.full((*mask.shape, 3), 255, np.uint8)
    shown[prediction != mask] = ERROR_RED
    shown[mask == IGNORE_INDEX] = UNLABELLED_GREY
    return shown


def view_click_errors(prediction: Mask, clicks: Mask) -> Rgb:
    """Return (H, W, 3) of the errors at single labels, each label enlarged to 5 × 5 px.

    Wrong ones are red, correct ones blue, unlabelled pixels light grey.
    """
    is_correct = (prediction == clicks).astype(np.uint8)
    kinds = _enlarge(np.where(clicks == IGNORE_INDEX, np.uint8(IGNORE_INDEX), is_correct))
    shown = np.full((*clicks.shape, 3), UNLABELLED_GREY, np.uint8)
    shown[kinds == 0], shown[kinds == 1] = ERROR_RED, CORRECT_BLUE
    return shown


@dataclass(frozen=True)
class Frame:
    """Size, legend and metadata of a panel."""

    view_inches: tuple[float, float] = (VIEW_INCHES, VIEW_INCHES)
    """Height and width of a view in inches."""
    without: str = "unlabelled"
    """Name of pixels without a class in the legend."""
    tags: Mapping[str, str] | None = None
    """Metadata of the file."""


def draw_panel(
    path: Path,
    title: str,
    views: Sequence[tuple[str, Rgb | Fractions]],
    classes: ClassTable,
    frame: Frame = Frame(),
) -> None:
    """Write a PNG with views of one tile or map side by side, and a legend of the classes.

    Args:
        path: of the PNG.
        title: of the figure.
        views: names and pictures, (H, W, 3) uint8; or fractions, drawn with a colour bar.
        classes: names and colours.
        frame: size of the views, legend and metadata.
    """
    height, width = frame.view_inches
    without = frame.without
    columns = _columns([*classes.names, without], width * len(views))
    below = LEGEND_ROW_INCHES * (-(-(len(classes) + 1) // columns) - 1)
    figure = Figure(figsize=(width * len(views), height + 0.9 + below), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axes, (name, view) in zip(
        np.atleast_1d(figure.subplots(1, len(views))), views, strict=True
    ):
        shown = axes.imshow(view, interpolation="nearest", cmap="viridis", vmin=0, vmax=1)
        axes.set_title(name, fontsize=9)
        axes.set(xticks=(), yticks=())  # ticks are not drawn, but would need space
        axes.set_axis_off()
        if view.ndim == 2:
            bar = figure.colorbar(
                shown, ax=axes, location="bottom", fraction=0.05, pad=0.02, ticks=(0, 0.5, 1)
            )
            bar.ax.tick_params(labelsize=7)
    patches = [
        Patch(facecolor=format_colour(colour), edgecolor="black", linewidth=0.4, label=name)
        for name, colour in zip(classes.names, classes.colours, strict=True)
    ]
    grey = UNLABELLED_GREY / 255
    patches.append(
        Patch(facecolor=(grey, grey, grey), edgecolor="black", linewidth=0.4, label=without)
    )
    figure.legend(
        handles=patches, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )
    save_figure(figure, path, frame.tags)


def _columns(labels: Sequence[str], width_inches: float) -> int:
    """Return the number of columns of a legend that fit in a width, MOST_COLUMNS at most."""
    plain = (label.replace("$", r"\$") for label in labels)  # no formulas
    longest = max(TextPath((0, 0), label, size=8).get_extents().width / 72 for label in plain)
    return max(1, min(len(labels), MOST_COLUMNS, int(width_inches / (longest + 0.55))))


def draw_purity(path: Path, labels: dict[str, Any], classes: ClassTable) -> None:
    """Write a PNG of the coverage and purity of sparse labels, by class.

    Args:
        path: of the PNG.
        labels: a summary of `AnnotationReport`; a class without labels has no point.
        classes: names and colours.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    points = [
        (name, entry["recall"], entry["precision"], format_colour(colour), "o")
        for (name, entry), colour in zip(labels["by_class"].items(), classes.colours, strict=True)
    ]
    points.append(("all classes", labels["labelled_fraction"], labels["purity"], "black", "*"))
    least = 1.0
    for name, coverage, purity, colour, marker in points:
        if coverage and purity is not None:
            least = min(least, coverage)
            axes.scatter(
                coverage,
                purity,
                s=150 if marker == "*" else 60,
                c=colour,
                marker=marker,
                edgecolors="black",
                linewidths=0.5,
                label=name,
                zorder=3,
            )
    axes.set_xscale("log")
    # Begin at a power of ten, since a logarithmic axis within one decade has no tick labels.
    axes.set_xlim(10 ** min(-1, math.floor(math.log10(least))), 1.2)
    axes.xaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda fraction, _: f"{100 * fraction:.6g} %")
    axes.set_xlabel("coverage: fraction of the (class's) pixels with a correct label")
    axes.set_ylabel("purity: fraction of the labels that are correct")
    axes.set_ylim(0, 1.03)
    axes.grid(alpha=0.3, which="both")
    axes.set_title("Sparse labels of the train split", fontsize=10)
    if axes.collections:
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def draw_confusion(path: Path, confusion: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    """Write a PNG of a confusion matrix (rows true) as fractions of each true class's pixels."""
    totals = confusion.sum(axis=1, keepdims=True)
    fractions = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    side = 2.2 + 0.75 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    texts = [f"{fraction:.0%}" for fraction in fractions.flat]
    shown = draw_cells(axes, fractions, texts, names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title("Fraction of each true class's pixels, test split", fontsize=10)
    figure.colorbar(shown, ax=axes, shrink=0.8)
    save_figure(figure, path)


def draw_classes(path: Path, by_class: Mapping[str, Mapping[str, float | None]]) -> None:
    """Write a PNG of IoU, precision and recall by class; a dash marks a missing value."""
    shown = ("iou", "precision", "recall")
    width = 0.8 / len(shown)
    figure = Figure(figsize=(max(5, 1.6 + 1.1 * len(by_class)), 3.8), layout="constrained")
    axes = figure.subplots()
    for number, kind in enumerate(shown):
        places = [place + (number - 1) * width for place in range(len(by_class))]
        values = [entry[kind] for entry in by_class.values()]
        label = "IoU" if kind == "iou" else kind
        axes.bar(places, [value or 0 for value in values], 0.92 * width, label=label, zorder=2)
        for place, value in zip(places, values, strict=True):
            text = "-" if value is None else f"{value:.2f}"
            axes.text(place, (value or 0) + 0.015, text, ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(by_class)), list(by_class), rotation=20 if len(by_class) > 6 else 0)
    axes.set_ylim(0, 1.08)
    axes.grid(alpha=0.3, axis="y", zorder=0)
    axes.set_title("Scores by class, test split", fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(shown), frameon=False, fontsize=8)
    save_figure(figure, path)


def draw_reliability(path: Path, bins: Sequence[dict[str, Any]], error: float | None) -> None:
    """Write a PNG of a reliability diagram, with a histogram of the confidences.

    Args:
        path: of the PNG.
        bins: with `low`, `high`, `pixels`, `confidence` and `accuracy`; without empty bins.
        error: the expected calibration error; None without labelled pixels.
    """
    figure = Figure(figsize=(4.6, 5), layout="constrained")
    curve, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curve.plot(
        (0, 1), (0, 1), color="0.5", linestyle="--", linewidth=1, label="perfectly calibrated"
    )
    curve.plot(
        [entry["confidence"] for entry in bins],
        [entry["accuracy"] for entry in bins],
        marker="o",
        markersize=4,
        label="pixels of the test split",
    )
    total = sum(entry["pixels"] for entry in bins)
    histogram.bar(
        [entry["low"] for entry in bins],
        [entry["pixels"] / total for entry in bins],
        [entry["high"] - entry["low"] for entry in bins],
        align="edge",
        edgecolor="white",
        linewidth=0.5,
    )
    curve.set_ylim(0, 1.02)
    curve.set_xlim(0, 1.02)
    curve.set_ylabel("accuracy")
    histogram.set_ylabel("fraction of pixels")
    histogram.set_xlabel("confidence: probability of the predicted class")
    for axes in (curve, histogram):
        axes.grid(alpha=0.3)
    curve.legend(frameon=False, fontsize=8, loc="upper left")
    text = "no labelled pixel" if error is None else f"expected calibration error {error:.3f}"
    curve.set_title(f"Reliability, {text}", fontsize=10)
    save_figure(figure, path)


def draw_curves(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a PNG of training curves: losses, and mIoU on sparse validation labels, by epoch."""
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in ("train_loss", "val_loss"):
        losses.plot(epochs, [row[name] for row in rows], label=name.replace("_", " "))
    losses.set_ylabel("partial cross-entropy")
    scores.plot(epochs, [row["val_miou"] for row in rows], label="val mIoU (sparse)", color="C2")
    scores.set_ylim(0, 1)
    for axes in (losses, scores):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, path)


def draw_cells(
    axes: Any, fractions: npt.NDArray[np.floating[Any]], texts: Sequence[str], names: Sequence[str]
) -> Any:
    """Draw a square matrix of classes, shaded by fractions, with a text in each cell.

    Args:
        axes: to draw on.
        fractions: (C, C) of 0 to 1.
        texts: of the cells, row by row.
        names: of the classes, for rows and columns.

    Returns:
        The image of the shades, for a colour bar.
    """
    shown = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for (row, column), text in zip(np.ndindex(*fractions.shape), texts, strict=True):
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=8,
            color="white" if fractions[row, column] > 0.5 else "black",
        )
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    return shown


def save_figure(
    figure: Figure, path: Path, tags: Mapping[str, str] | None = None, dpi: int = DPI
) -> None:
    """Write a figure as PNG, with tags; equal figures have equal bytes.

    Names of images and classes may have dollar signs, which matplotlib reads as formulas.
    """
    for text in figure.findobj(Text):
        if "$" in text.get_text() and TICK_FORMULA not in text.get_text():
            text.set_parse_math(False)
    # The library's version is left out.
    with publish_file(path) as aside, mpl.rc_context({"savefig.dpi": dpi}):
        figure.savefig(aside, format="png", metadata={"Software": None, **(tags or {})})
