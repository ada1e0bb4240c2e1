"""The map follows the clicks, by a thread of its own."""

from pathlib import Path

import numpy as np
import pytest

from pointcover.labelling import live_map
from pointcover.labelling.live_map import LiveMap
from pointcover.labelling.next_point import choose_next
from pointcover.labelling.view import View
from pointcover.labels import IGNORE_INDEX
from pointcover.raster.overviews import LevelReader
from tests.labelling.scenes import POINTS, draw_truth, open_scene
from tests.processes import wait_for

WHOLE = View(0, 0, 0, 0, 192, 192)


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.setattr(live_map, "PAUSE_S", 0.05)
    project = open_scene(tmp_path)
    entries = project.description.images
    readers = [LevelReader(Path(e.path), (1, 2, 3), tmp_path / "cache") for e in entries]
    live = LiveMap(project, readers, 2, lambda: None)
    live.start()
    yield project, live
    live.stop()
    project.close()


def click(project, live, *points, image="a.tif"):
    for x, y, label in points:
        project.history.add(image, x, y, label)
    return live.points_changed()


def finished(live, changes):
    """Return the map of these changes, when all pixels are mapped and nothing is left to do."""
    return wait_for(
        lambda: (
            live.view_map is not None
            and live.view_map.changes == changes
            and not live.is_busy
            and live.view_map
        )
    )


def test_a_map_appears_with_the_second_class_and_follows_clicks(scene):
    project, live = scene
    live.show(WHOLE)
    click(project, live, *POINTS[:4])
    wait_for(lambda: live.message == live_map.NEEDS_TWO and not live.is_busy)
    assert live.view_map is None
    two = finished(live, click(project, live, *POINTS[4:8]))
    assert set(np.unique(two.class_ids)) == {0, 1}
    three = finished(live, click(project, live, *POINTS[8:]))
    assert three.number > two.number
    assert (three.labels.points, three.names) == (12, ("meadow", "water", "road"))
    assert (three.class_ids == draw_truth()).mean() > 0.93
    assert three.confidence.max() <= 100
    for _ in range(4):
        project.history.undo()
    again = finished(live, live.points_changed())
    np.testing.assert_array_equal(again.class_ids, two.class_ids)


def test_other_images_and_levels_are_mapped_by_the_same_points(scene, monkeypatch):
    project, live = scene
    live.show(WHOLE)
    finished(live, click(project, live, *POINTS))
    live.show(View(1, 0, 30, 30, 60, 60))
    other = wait_for(lambda: live.view_map.image == 1 and not live.is_busy and live.view_map)
    assert (other.extent.height, other.extent.width) == (64, 64)
    assert (other.class_ids == draw_truth()[:64, :64]).mean() > 0.9
    live.show(View(0, 1, 0, 0, 96, 96))
    half = wait_for(lambda: live.view_map.level == 1 and not live.is_busy and live.view_map)
    assert half.class_ids.shape == (96, 96)
    assert (half.class_ids == draw_truth()[::2, ::2]).mean() > 0.8


def test_scores_are_of_squares_that_were_left_out(scene):
    project, live = scene
    live.show(WHOLE)
    finished(live, click(project, live, *POINTS, (30, 40, "road")))
    scores = wait_for(lambda: live.scores)
    assert (scores.points, scores.squares) == (13, 12)
    assert scores.by_class["road"]["points"] == 5
    assert 0.5 < scores.miou < 1
    low, high = scores.interval
    assert low < scores.miou <= high
    assert [(one.label, one.predicted) for one in scores.doubts] == [("road", "meadow")]


@pytest.mark.parametrize(
    "acquisition",
    [
        "disagreement",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("margin", "entropy")),
    ],
)
def test_the_next_points_are_uncertain_and_apart_from_all_others(scene, acquisition):
    project, live = scene
    project.set_settings({"acquisition": acquisition, "distance_px": 24, "balanced_from": 4})
    live.show(WHOLE)
    finished(live, click(project, live, *POINTS))
    project.history.add("a.tif", 64, 100, None, "skipped")
    taken = [*project.history.points, *project.history.passed_over]
    labelled = {"meadow": 4, "water": 5, "road": 3}  # in all images
    settings = project.description.settings
    found = choose_next(live.scored_view(), taken, labelled, settings)
    assert 4 <= len(found) <= 12
    places = np.array([(one.x, one.y) for one in found] + [(one.x, one.y) for one in taken])
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert distances[: len(found)][distances[: len(found)] > 0].min() >= 23
    predicted = [one.predicted for one in found]
    assert list(dict.fromkeys(predicted)) == ["road", "meadow", "water"], "fewest labels first"
    first = settings.model_copy(update={"top_fraction": 0.0})
    few = choose_next(live.scored_view(), taken, labelled | {"road": 2}, first)
    values = [one.uncertainty for one in few]
    assert values == sorted(values, reverse=True), "most uncertain first, of whichever class"
    assert values[0] >= max(one.uncertainty for one in found)


@pytest.mark.slow
def test_pixels_without_data_have_no_class(tmp_path, monkeypatch):
    monkeypatch.setattr(live_map, "PAUSE_S", 0.05)
    project = open_scene(tmp_path, images=1, nodata=None)
    reader = LevelReader(Path(project.description.images[0].path), (1, 2, 3), tmp_path / "cache")
    read = reader.read

    def without_corner(level, row, col, size):
        image, valid = read(level, row, col, size)
        valid[: max(0, 10 - row), : max(0, 10 - col)] = False
        return image, valid

    monkeypatch.setattr(reader, "read", without_corner)
    live = LiveMap(project, [reader], 1, lambda: None)
    live.start()
    live.show(WHOLE)
    found = finished(live, click(project, live, *POINTS))
    assert (found.class_ids[:10, :10] == IGNORE_INDEX).all()
    assert (found.class_ids == IGNORE_INDEX).sum() == 100
    live.stop()
    project.close()


@pytest.mark.slow
def test_features_of_points_are_kept_for_the_next_session(scene, tmp_path):
    project, live = scene
    live.show(WHOLE)
    finished(live, click(project, live, *POINTS))
    live.stop()
    (path,) = (tmp_path / "project" / "cache").glob("points_*.npz")
    readers = live._readers
    again = LiveMap(project, readers, 1, lambda: None)
    again.start()
    again.show(WHOLE)
    maker = wait_for(lambda: again._maker)
    assert len(maker._features_at._known) == 12
    again.stop()
    path.write_bytes(b"damaged")
    third = LiveMap(project, readers, 1, lambda: None)
    third.start()
    third.show(WHOLE)
    assert finished(third, 0).labels.points == 12
    third.stop()
