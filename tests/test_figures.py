"""Figures show what the arrays hold, have the size they should, and repeat themselves by byte."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pointcover.figures import (
    Frame,
    draw_classes,
    draw_confusion,
    draw_curves,
    draw_panel,
    draw_purity,
    draw_reliability,
    save_figure,
    spread_evenly,
    view_click_errors,
    view_clicks,
    view_errors,
    view_image,
    view_mask,
)
from pointcover.labels import IGNORE_INDEX, ClassTable

RED, GREEN, BLUE = (250, 10, 20), (10, 240, 30), (5, 15, 230)
GREY, WHITE, WRONG = (235, 235, 235), (255, 255, 255), (214, 40, 40)
CLASSES = ClassTable(("roof", "meadow", "lake"), (RED, GREEN, BLUE))


def colours(view):
    """Rows of colours as tuples."""
    return [[tuple(pixel) for pixel in row] for row in view.tolist()]


def read(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def share_of(picture, colour):
    return (picture == colour).all(axis=-1).mean()


# Views


def test_a_mask_is_shown_in_class_colours_and_grey_where_unlabelled():
    mask = np.array([[0, 1], [2, IGNORE_INDEX]], np.uint8)
    assert colours(view_mask(mask, CLASSES)) == [[RED, GREEN], [BLUE, GREY]]
    assert mask.tolist() == [[0, 1], [2, IGNORE_INDEX]]


def test_errors_are_red_right_pixels_white_and_unlabelled_ones_grey_though_predicted():
    prediction, mask = np.array([[0, 1, 2]], np.uint8), np.array([[0, 2, 255]], np.uint8)
    assert colours(view_errors(prediction, mask)) == [[WHITE, WRONG, GREY]]


def test_a_click_is_shown_five_pixels_wide_and_high_and_nothing_beyond():
    clicks = np.full((9, 11), IGNORE_INDEX, np.uint8)
    clicks[4, 5] = 1
    wanted = np.full((9, 11, 3), GREY)
    wanted[2:7, 3:8] = GREEN
    assert np.array_equal(view_clicks(clicks, CLASSES), wanted)


def test_a_click_at_the_corner_is_shown_as_far_as_the_tile_goes():
    clicks = np.full((6, 6), IGNORE_INDEX, np.uint8)
    clicks[0, 5] = 2
    wanted = np.full((6, 6, 3), GREY)
    wanted[:3, 3:] = BLUE
    assert np.array_equal(view_clicks(clicks, CLASSES), wanted)


def test_errors_at_clicks_are_as_large_as_clicks_and_the_wrong_ones_are_on_top():
    prediction = np.zeros((9, 20), np.uint8)
    clicks = np.full((9, 20), IGNORE_INDEX, np.uint8)
    clicks[4, 5], clicks[4, 8], clicks[4, 16] = 0, 1, 0
    wanted = np.full((9, 20, 3), GREY)
    wanted[2:7, 3:8] = wanted[2:7, 14:19] = (31, 119, 180)
    wanted[2:7, 6:11] = WRONG
    assert np.array_equal(view_click_errors(prediction, clicks), wanted)


@pytest.mark.parametrize(
    ("bands", "shown"),
    [(1, (0, 0, 0)), (2, (0, 0, 0)), (3, (0, 1, 2)), (4, (0, 1, 2)), (8, (0, 1, 2))],
)
def test_an_image_is_shown_by_its_first_three_bands_or_the_first_in_grey(bands, shown):
    image = np.arange(bands * 6, dtype=np.uint8).reshape(bands, 2, 3)
    view = view_image(image)
    assert view.shape == (2, 3, 3)
    for place, band in enumerate(shown):
        assert np.array_equal(view[..., place], image[band])


# Choosing


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (0, []),
        (1, [0]),
        (2, [0, 9]),
        (4, [0, 3, 6, 9]),
        (10, list(range(10))),
        (99, list(range(10))),
    ],
)
def test_items_are_chosen_evenly_from_first_to_last_and_none_twice(count, wanted):
    assert spread_evenly(range(10), count) == wanted


def test_no_items_give_no_choice():
    assert spread_evenly([], 3) == []


# Pictures


def draw_three(path):
    views = [
        ("one", np.full((16, 16, 3), (1, 2, 3), np.uint8)),
        ("two", view_mask(np.ones((16, 16), np.uint8), CLASSES)),
        ("three", np.full((16, 16, 3), (7, 8, 9), np.uint8)),
    ]
    draw_panel(path, "tile 1 (region)", views, CLASSES)


def draw_matrix(path):
    draw_confusion(path, np.array([[9, 1, 0], [5, 5, 0], [0, 0, 0]]), CLASSES.names)


ROWS = [{"epoch": i, "train_loss": 1 / i, "val_loss": 2 / i, "val_miou": i / 9} for i in (1, 2, 3)]


def draw_three_epochs(path):
    draw_curves(path, ROWS)


BY_CLASS = {
    "roof": {"iou": 0.5, "precision": 0.6, "recall": 0.75},
    "meadow": {"iou": 0.0, "precision": 0.0, "recall": None},
    "lake": {"iou": None, "precision": None, "recall": None},
}
BINS = [
    {
        "low": k / 15,
        "high": (k + 1) / 15,
        "pixels": 2**k,
        "confidence": (k + 0.5) / 15,
        "accuracy": k / 20,
    }
    for k in range(4, 15)
]


def draw_three_classes(path):
    draw_classes(path, BY_CLASS)


def draw_bins(path):
    draw_reliability(path, BINS, 0.125)


every_figure = pytest.mark.parametrize(
    ("draw", "height", "width"),
    [
        (draw_three, 410, 960),
        (draw_matrix, 445, 545),
        (draw_three_epochs, 340, 900),
        (draw_three_classes, 380, 500),
        (draw_bins, 500, 460),
    ],
)


@every_figure
@pytest.mark.filterwarnings("error")
def test_a_figure_is_a_png_of_the_expected_size_and_the_same_bytes_again(
    draw, height, width, tmp_path
):
    draw(tmp_path / "new" / "one.png")
    draw(tmp_path / "two.png")
    assert (tmp_path / "new" / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert b"Matplotlib" not in (tmp_path / "two.png").read_bytes()  # nor its version
    assert read(tmp_path / "two.png").shape == (height, width, 3)
    assert {file.name for file in tmp_path.iterdir()} == {"new", "two.png"}


def test_a_panel_shows_its_views_from_left_to_right_and_every_class_in_the_legend(tmp_path):
    draw_three(tmp_path / "panel.png")
    picture = read(tmp_path / "panel.png")
    middles = []
    for colour in ((1, 2, 3), GREEN, (7, 8, 9)):
        assert share_of(picture, colour) > 0.15
        middles.append(np.median(np.nonzero((picture == colour).all(axis=-1))[1]))
    assert middles == sorted(middles)
    legend = picture[-60:]
    for colour in (RED, GREEN, BLUE, GREY):
        assert share_of(legend, colour) > 0.001


def test_a_view_of_fractions_has_a_colour_map_from_0_to_1(tmp_path):
    low, high = (68, 1, 84), (253, 231, 37)  # the ends of viridis
    for name, values, shown in (("a", (0, 1), (low, high)), ("b", (0, 0.001), (low, low))):
        fractions = np.full((16, 16), values[0], np.float32)
        fractions[:, 8:] = values[1]
        path = tmp_path / f"{name}.png"
        draw_panel(
            path,
            "t",
            [("mask", view_mask(np.zeros((16, 16), np.uint8), CLASSES)), ("confidence", fractions)],
            CLASSES,
        )
        picture = read(path)[:, 330:].astype(int)  # right of the mask
        for colour in shown:
            assert (np.abs(picture - colour).max(axis=-1) <= 3).mean() > 0.15
    assert read(tmp_path / "a.png").shape == (410, 640, 3)


@pytest.mark.filterwarnings("error")
def test_classes_and_reliability_without_a_pixel_are_drawn(tmp_path):
    nothing = dict.fromkeys(("iou", "precision", "recall"))
    draw_classes(tmp_path / "classes.png", {f"class {k}": nothing for k in range(12)})
    draw_reliability(tmp_path / "reliability.png", [], None)
    assert {file.name for file in tmp_path.iterdir()} == {"classes.png", "reliability.png"}


def test_the_legend_of_a_narrow_map_is_as_wide_as_the_map_and_whole(tmp_path, monkeypatch):
    names = ("background", "building", "woodland", "water", "road", "greenhouse", "railway", "rock")
    classes = ClassTable(names, tuple((10 * n, 200, 9) for n in range(len(names))))
    figures = []
    monkeypatch.setattr("pointcover.figures.save_figure", lambda figure, *_: figures.append(figure))
    view = np.zeros((600, 190, 3), np.uint8)
    draw_panel(tmp_path / "a.png", "t", [("image", view), ("map", view)], classes, Frame((6, 2)))
    (figure,) = figures
    figure.canvas.draw()
    (legend,) = figure.legends
    shown, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= shown.x0 < shown.x1 <= whole.x1
    assert whole.y0 <= shown.y0 < shown.y1 < figure.axes[0].get_window_extent().y0


def test_a_panel_has_the_given_metadata(tmp_path):
    view = ("v", np.zeros((8, 8, 3), np.uint8))
    draw_panel(tmp_path / "a.png", "t", [view], CLASSES, Frame(tags={"Source": "a.tif"}))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info["Source"] == "a.tif"


def test_a_panel_of_one_view_is_drawn(tmp_path):
    draw_panel(tmp_path / "one.png", "t", [("v", np.zeros((8, 8, 3), np.uint8))], CLASSES)
    assert share_of(read(tmp_path / "one.png"), (0, 0, 0)) > 0.3


def test_a_confusion_matrix_is_drawn_as_fractions_of_the_true_class(tmp_path):
    counts = np.array([[9, 1], [5, 5]])
    names = ("roof", "meadow")
    for name, values in (("a", counts), ("b", counts * [[1000], [7]]), ("c", counts.T)):
        draw_confusion(tmp_path / f"{name}.png", values, names)
    first, scaled, turned = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert scaled == first
    assert turned != first


@pytest.mark.filterwarnings("error")
def test_a_confusion_matrix_without_a_pixel_is_drawn(tmp_path):
    draw_confusion(tmp_path / "empty.png", np.zeros((3, 3), np.int64), CLASSES.names)
    assert (tmp_path / "empty.png").stat().st_size > 1000


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_the_axis_of_epochs_has_whole_numbers(count, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("pointcover.figures.save_figure", lambda figure, *_: figures.append(figure))
    row = {"train_loss": 1, "val_loss": 1, "val_miou": 0.5}
    draw_curves(tmp_path / "a.png", [{"epoch": 1 + k, **row} for k in range(count)])
    for axes in figures[0].axes:
        ticks = axes.get_xticks()
        assert len(ticks)
        assert all(tick == round(tick) for tick in ticks)


@pytest.mark.filterwarnings("error")
def test_curves_of_one_epoch_are_drawn(tmp_path):
    draw_curves(tmp_path / "one.png", ROWS[:1])
    assert read(tmp_path / "one.png").shape == (340, 900, 3)


def test_each_class_with_labels_is_a_point_of_the_purity_figure_in_its_colour(tmp_path):
    labels = {
        "labelled_fraction": 0.05,
        "purity": 0.9,
        "by_class": {
            "roof": {"recall": 0.001, "precision": 0.5},
            "meadow": {"recall": 0.2, "precision": 0.95},
            "lake": {"recall": None, "precision": None},
        },
    }
    draw_purity(tmp_path / "purity.png", labels, CLASSES)
    picture = read(tmp_path / "purity.png")
    assert share_of(picture, RED) > 0
    assert share_of(picture, GREEN) > 0
    assert share_of(picture, BLUE) == 0
    nothing = {name: {"recall": None, "precision": None} for name in CLASSES.names}
    draw_purity(
        tmp_path / "none.png",
        {"labelled_fraction": 0, "purity": None, "by_class": nothing},
        CLASSES,
    )
    assert share_of(read(tmp_path / "none.png"), RED) == 0


def test_dollar_signs_in_names_are_no_formulas(tmp_path):
    names = ("a$_$", "$\\frac$", "100 $")
    classes = ClassTable(names, (RED, GREEN, BLUE))
    view = np.zeros((8, 8, 3), np.uint8)
    draw_panel(tmp_path / "a.png", names[0], [(names[1], view), ("b", view)], classes)
    draw_confusion(tmp_path / "b.png", np.eye(3, dtype=np.int64), names)
    by_class = {name: {"iou": 1.0, "precision": 1.0, "recall": None} for name in names}
    draw_classes(tmp_path / "c.png", by_class)
    assert len(list(tmp_path.iterdir())) == 3


def test_powers_of_ten_at_an_axis_stay_formulas(tmp_path):
    figure = Figure(figsize=(2, 2))
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_xlim(0.01, 1)
    figure.canvas.draw()
    save_figure(figure, tmp_path / "a.png")
    save_figure(figure, tmp_path / "b.png")
    labels = [text for text in axes.get_xticklabels() if "$" in text.get_text()]
    assert labels
    assert all(text.get_parse_math() for text in labels)
