"""Class tables, and masks read by colour or number: an unknown one is an error, never a class."""

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointcover import labels
from pointcover.labels import (
    IGNORE_INDEX,
    ClassTable,
    UnknownValues,
    count_pixels,
    format_colour,
    ids_from_colours,
    ids_from_values,
    parse_colour,
)

RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)
byte = st.integers(0, 255)


@given(st.tuples(byte, byte, byte))
def test_a_colour_survives_being_written_and_read(colour):
    assert parse_colour(format_colour(colour)) == colour


def test_a_colour_is_read_red_first_with_or_without_its_hash():
    assert parse_colour("#3C1098") == parse_colour("3c1098") == (0x3C, 0x10, 0x98)


@pytest.mark.parametrize("text", ["", "#", "red", "#3C109", "#3C10988", "#3C10GG", "3C 109", "255"])
def test_what_is_no_colour_is_refused_and_shown_with_a_good_one(text):
    with pytest.raises(ValueError, match="six hexadecimal digits: write it as '#3C1098'") as caught:
        parse_colour(text)
    assert repr(text) in str(caught.value)


def test_a_class_table_that_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match="name land occurs twice"):
        ClassTable(("land", "land"), (RED, GREEN))
    with pytest.raises(ValueError, match="colour #FF0000 occurs twice"):
        ClassTable(("land", "water"), (RED, RED))
    with pytest.raises(ValueError, match="2 class names but 1 colours"):
        ClassTable(("land", "water"), (RED,))


def test_a_class_table_holds_two_classes_at_least_and_never_the_ignore_index():
    with pytest.raises(ValueError, match="2 to 255 classes, got 1"):
        ClassTable(("land",), (RED,))
    names = tuple(map(str, range(256)))
    colours = tuple((number, 0, 0) for number in range(256))
    assert len(ClassTable(names[:255], colours[:255])) == IGNORE_INDEX
    with pytest.raises(ValueError, match="got 256"):
        ClassTable(names, colours)


def test_a_mask_is_painted_in_its_classes_colours_and_unlabelled_pixels_black():
    painted = ClassTable(("a", "b"), (RED, GREEN)).paint(np.array([[1, 0, 255]], np.uint8))
    assert painted.tolist() == [[[0, 255, 0], [255, 0, 0], [0, 0, 0]]]


def test_colours_become_the_ids_they_stand_for():
    pixels = np.array([[RED, BLACK], [GREEN, RED]], np.uint8)
    mask = ids_from_colours(pixels.transpose(2, 0, 1), {RED: 4, GREEN: 0, BLACK: IGNORE_INDEX})
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[4, 255], [0, 4]]


def test_an_unknown_colour_is_an_error_that_counts_the_commonest_first():
    pixels = np.zeros((3, 4, 4), np.uint8)
    pixels[:, 0, :2] = 9
    for value in range(20, 26):
        pixels[0, 3 - value % 2, (value - 20) // 2] = value
    with pytest.raises(ValueError, match=r"unknown colour #090909 \(2 px\)") as caught:
        ids_from_colours(pixels, {BLACK: 0, RED: 1})
    assert "and 2 more; known: #000000, #FF0000" in str(caught.value)
    assert "`classes`" in str(caught.value)
    assert "`ignore`" in str(caught.value)


def test_a_colour_that_differs_by_one_step_in_one_band_is_unknown():
    with pytest.raises(ValueError, match=r"#FE0000 \(1 px\)"):
        ids_from_colours(np.array([[[254]], [[0]], [[0]]], np.uint8), {RED: 0, GREEN: 1})


def test_numbers_become_the_ids_they_stand_for_whatever_their_type():
    for dtype in (np.uint8, np.uint16, np.int32, np.float32):
        values = np.array([[10, 20, 0]], dtype)
        assert ids_from_values(values, {10: 0, 20: 1, 0: 255}).tolist() == [[0, 1, 255]]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([[0, 7, 7]], np.uint8), "unknown id 7 (2 px); known: 0, 1"),
        (np.array([[256, 0]], np.uint16), "unknown id 256 (1 px)"),
        (np.array([[-1, 0]], np.int16), "unknown id -1 (1 px)"),
        (np.array([[1.5, 0]], np.float32), "unknown id 1.5 (1 px)"),
        (np.array([[np.nan, np.nan, 0]], np.float32), "unknown id nan (2 px)"),
        (np.arange(9, dtype=np.uint8)[np.newaxis], "and 2 more"),
    ],
)
def test_an_unknown_number_is_an_error_that_counts_it(values, shown):
    with pytest.raises(ValueError, match=r"known: 0, 1\. Add it to the card's `classes`") as caught:
        ids_from_values(values, {0: 0, 1: 1})
    assert shown in str(caught.value)


def test_unknown_values_are_pickled():
    error = UnknownValues("id", {"7": 3}, "0, 1", "a.tif: ")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_unlabelled_pixels_are_not_counted():
    mask = np.array([[0, 2, 2], [255, 255, 0]], np.uint8)
    assert count_pixels(mask, 4) == (2, 0, 2, 0)


def test_values_are_counted_exactly_in_parts_and_from_any_layout(monkeypatch):
    values = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    wanted = np.bincount(values.ravel(), minlength=256)
    for limit in (1 << 24, 999):
        monkeypatch.setattr(labels, "_COUNTED_EXACTLY", limit)
        assert np.array_equal(labels.count_values(values.transpose(2, 0, 1)), wanted)
        assert labels.count_values(values[:, :0]).tolist() == [0] * 256


@pytest.mark.parametrize("limit", [1 << 20, 999])
def test_values_are_counted_without_opencv_too(monkeypatch, limit):
    values = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    monkeypatch.setattr(labels, "_CONVERTED", limit)
    monkeypatch.setitem(sys.modules, "cv2", None)
    wanted = np.bincount(values.ravel(), minlength=256)
    assert np.array_equal(labels.count_values(values.transpose(2, 0, 1)), wanted)
    assert labels.count_values(values[:, :0]).tolist() == [0] * 256
