"""Time without breaks, and what the curve says of more points."""

import pytest

from pointcover.labelling.pace import measure_pace
from pointcover.labelling.point_log import Record
from pointcover.labelling.score_curve import ScoreCurve
from pointcover.labelling.spatial_scores import SpatialScores


def record(second, author="anna"):
    time = f"2026-01-01T00:{second // 60:02}:{second % 60:02}.000000Z"
    return Record("0" * 32, "a.tif", 1, 2, "land", "labelled", author, time)


def test_breaks_do_not_count():
    assert measure_pace([], 0).points_per_hour is None
    pace = measure_pace([record(second) for second in range(0, 120, 4)], 30)
    assert (pace.minutes, pace.points_per_hour) == (2.0, 893)  # 5 s for the first, 29 of 4 s
    broken = measure_pace([record(0), record(600)], 2)
    assert (broken.minutes, broken.points_per_hour) == (0.2, None)


def test_two_people_are_timed_apart():
    both = [record(s, a) for s in range(0, 60, 6) for a in ("anna", "ben")]
    assert measure_pace(both, 20).minutes == pytest.approx(
        2 * measure_pace(both[::2], 10).minutes, abs=0.11
    )


def scores(points, miou, half=0.05):
    return SpatialScores(points, 9, miou, miou, (miou - half, miou + half), {}, ())


def test_the_curve_says_when_more_points_stop_paying(tmp_path):
    curve = ScoreCurve(tmp_path)
    assert curve.verdict() == ""
    curve.add(scores(20, 0.5), 3)
    curve.add(scores(60, 0.7), 8)
    assert "rose by 0.200 from 20 to 60 points: more points still pay" in curve.verdict()
    curve.add(scores(120, 0.705), 15)
    assert "more points of this kind pay little" in curve.verdict()
    again = ScoreCurve(tmp_path)
    assert again.points == curve.points
    assert [one.minutes for one in again.points] == [3, 8, 15]
    (tmp_path / "scores.jsonl").write_text("damaged")
    assert ScoreCurve(tmp_path).points == []
