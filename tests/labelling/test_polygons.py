"""Polygons as labels: what is refused, which pixels they stand for, and that nothing is lost."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from pointcover.labelling.history import PointHistory
from pointcover.labelling.point_log import PointLog, Record, read_log
from pointcover.labelling.polygons import (
    MOST_PX,
    check_outline,
    outline_stroke,
    place_within,
    places_of,
    to_polygon,
)

SQUARE = ((10.0, 10.0), (30.0, 10.0), (30.0, 30.0), (10.0, 30.0))


def record_of(shape, name="a" * 32):
    return Record(name, "a.tif", *place_within(shape), "land", "labelled", "anna", "", shape)


@pytest.mark.parametrize(
    ("outline", "text"),
    [
        (((0, 0), (300, 0), (0, 9)), "leaves the image of 200 × 100 px"),
        (((0, 0), (9, 9), (9, 0), (0, 9)), "crosses or touches itself"),
        (((0, 0), (9, 0), (5, 0)), "crosses or touches itself"),
        (((1.6, 1.6), (2.4, 1.6), (2, 2.4)), "centre of no pixel"),
    ],
)
def test_outlines_that_are_no_polygon_of_pixels_are_refused(outline, text):
    with pytest.raises(ValueError, match=text):
        check_outline(outline, (100, 200))


def test_small_polygons_stand_for_all_their_pixels():
    shape = check_outline(((2, 3), (6, 3), (6, 6), (2, 6)), (100, 200))
    places = places_of(record_of(shape))
    assert {(x, y) for x, y in places.tolist()} == {
        (x + 0.5, y + 0.5) for x in range(2, 6) for y in range(3, 6)
    }


@pytest.mark.parametrize("side", [20, 5000])
def test_large_polygons_stand_for_a_sample_that_stays(side):
    outline = ((0, 0), (side, 0), (side, side), (0, side))
    shape = check_outline(outline, (5000, 5000))
    first = places_of(record_of(shape))
    assert len(np.unique(first, axis=0)) == MOST_PX
    assert shapely.contains_xy(to_polygon(shape), first).all()
    places_of.__globals__["_places_in"].cache_clear()
    assert (places_of(record_of(shape)) == first).all()
    assert (places_of(record_of(shape, "b" * 32)) != first).any()


POINTS = st.tuples(st.floats(-20, 220), st.floats(-20, 120))


@given(st.lists(POINTS, min_size=1, max_size=20), st.floats(0.8, 40))
def test_a_brush_gives_a_polygon_inside_the_image(line, radius_px):
    polygon = to_polygon(outline_stroke(line, radius_px, (100, 200)))
    assert polygon.is_valid
    assert shapely.box(0, 0, 200, 100).covers(polygon)
    x, y = line[0]
    start = shapely.Point(min(max(x, 0), 200), min(max(y, 0), 100))
    assert polygon.distance(start) < 0.05


def test_a_brush_that_goes_in_a_circle_leaves_a_hole(tmp_path):
    turn = np.linspace(0, 2 * np.pi, 40)
    line = np.stack([100 + 30 * np.cos(turn), 50 + 30 * np.sin(turn)], axis=1).tolist()
    shape = outline_stroke(line, 5, (100, 200))
    assert len(shape) == 2
    assert to_polygon(shape).area == pytest.approx(2 * np.pi * 30 * 10, rel=0.03)
    assert not to_polygon(shape).contains(shapely.Point(100, 50))
    log = PointLog(tmp_path / "points.jsonl")
    history = PointHistory(log, "anna")
    written = history.add_polygon("a.tif", shape, place_within(shape), ("c" * 32, "land"))
    log.close()
    assert read_log(log.path)[0] == [written]


def test_polygons_are_undone_and_redone_and_added_once(tmp_path):
    log = PointLog(tmp_path / "points.jsonl")
    history = PointHistory(log, "anna")
    for _ in range(2):
        history.add_polygon("a.tif", (SQUARE,), (20, 20), ("c" * 32, "land"))
    assert len(log.records) == 1
    history.relabel("c" * 32, "water")
    history.undo()
    history.undo()
    assert history.points == []
    history.redo()
    (label,) = history.points
    assert (label.shape, label.label) == ((SQUARE,), "land")
    log.close()


@pytest.mark.parametrize(
    "shape", ["7", "[]", "[[[1, 2], [3, 4]]]", '[[[1, 2], [3, 4], ["a", 5]]]', "[[[1], [2], [3]]]"]
)
def test_a_shape_that_is_none_is_named(tmp_path, shape):
    log = PointLog(tmp_path / "points.jsonl")
    PointHistory(log, "anna").add("a.tif", 1, 2, "land")
    log.close()
    line = log.path.read_text()
    log.path.write_text(line + line.replace("}", f', "shape": {shape}}}'))
    with pytest.raises(ValueError, match=r"line 2 is no record \(shape: wanted"):
        PointLog(log.path)
