"""Change: from-to classes on one grid, to be sampled like any map."""

import csv

import numpy as np
import pytest
import rasterio

from pointcover.assessment.assess import assess
from pointcover.assessment.change import compare_maps, write_change
from pointcover.assessment.class_maps import open_class_map, open_class_maps
from pointcover.assessment.sample import Size, draw_sample
from pointcover.assessment.sample_file import LabelledSample
from pointcover.assessment.settings import SampleSettings
from pointcover.maps.map_files import PIXEL_COUNTS, leave_out_maps
from tests.assessment.maps import draw_ids, write_map


@pytest.fixture
def pair(tmp_path):
    """An old map, and a new one with a lake on land."""
    old, new = draw_ids(), draw_ids()
    new[10:30, 10:30] = 1
    new[0] = 255
    paths = [write_map(tmp_path / "old.tif", old), write_map(tmp_path / "new.tif", new)]
    return old, new, [open_class_map(path) for path in paths]


def test_pixels_are_counted_from_class_to_class(pair, tmp_path):
    old, new, maps = pair
    found = compare_maps(*maps)
    names = found.classes.names
    assert "land stays" in names
    assert "land to water" in names
    both = (old != 255) & (new != 255)
    for (before, after), pixels, area in zip(
        found.pairs, found.pixels, found.areas_m2, strict=True
    ):
        assert pixels == (both & (old == before) & (new == after)).sum()
        assert area == pixels * 100
    assert found.pixels.sum() == both.sum()


def test_the_map_of_change_is_a_map_with_style_and_table(pair, tmp_path):
    old, new, maps = pair
    found = compare_maps(*maps)
    path = tmp_path / "out" / "change.tif"
    write_change(path, *maps, found)
    with rasterio.open(path) as file:
        ids = file.read(1)
        assert file.crs.to_epsg() == 2180
        assert file.nodata == 255
        assert file.tags()["CLASS_0"] == found.classes.names[0]
    for number, (before, after) in enumerate(found.pairs):
        assert ((ids == number) == ((old == before) & (new == after))).all()
    assert ((ids == 255) == ((old == 255) | (new == 255))).all()
    with path.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["pixels"]) for row in rows] == found.pixels.tolist()
    assert {row["basis"] for row in rows} == {PIXEL_COUNTS}
    assert "land to water" in path.with_suffix(".qml").read_text()
    assert sorted(one.name for one in path.parent.iterdir()) == [
        *("change.csv", "change.qml", "change.tif")
    ]
    assert leave_out_maps([maps[0].path, path]) == ([maps[0].path], [path])


def test_change_is_sampled_and_assessed_like_any_map(pair, tmp_path):
    *_, maps = pair
    found = compare_maps(*maps)
    write_change(tmp_path / "change.tif", *maps, found)
    opened = open_class_maps([tmp_path / "change.tif"])
    assert opened[0].classes == found.classes
    design = draw_sample(opened, SampleSettings(minimum=5), Size(points=100))
    labels = np.array([point.stratum for point in design.points])
    assert assess(opened, LabelledSample(design, labels)).estimates.overall.value == 1


def test_grids_that_do_not_match_are_refused_or_resampled(pair, tmp_path):
    old, _, maps = pair
    finer = np.repeat(np.repeat(draw_ids(), 2, 0), 2, 1)
    place = rasterio.transform.from_origin(500_000, 600_000, 5, 5)
    new = open_class_map(write_map(tmp_path / "fine.tif", finer, transform=place))
    with pytest.raises(ValueError, match=r"differ in size: .*--resample to bring the second"):
        compare_maps(maps[0], new)
    found = compare_maps(maps[0], new, resample=True)
    assert all(before == after for before, after in found.pairs)
    assert found.pixels.sum() == (old != 255).sum()
    shifted = open_class_map(write_map(tmp_path / "shifted.tif", draw_ids(), x=500_003))
    with pytest.raises(ValueError, match=r"lie 0.30 px apart: .*--resample"):
        compare_maps(maps[0], shifted)
    write_change(tmp_path / "c.tif", maps[0], new, found, resample=True)
    with rasterio.open(tmp_path / "c.tif") as file:
        assert file.shape == old.shape


def test_maps_that_share_no_pixel_are_refused(pair, tmp_path):
    far = open_class_map(write_map(tmp_path / "far.tif", draw_ids(), x=900_000))
    with pytest.raises(ValueError, match="no pixel in common where both have data"):
        compare_maps(pair[2][0], far, resample=True)


def test_too_many_changes_are_refused(tmp_path):
    names = tuple(f"c{number}" for number in range(17))
    generator = np.random.default_rng(0)
    maps = [
        open_class_map(
            write_map(
                tmp_path / f"{name}.tif",
                generator.integers(0, 17, (90, 90), np.uint8),
                names=names,
            )
        )
        for name in "ab"
    ]
    with pytest.raises(ValueError, match="have 289 from-to classes, at most 255 fit"):
        compare_maps(*maps)


def test_maps_that_are_alike_have_a_class_table_too(tmp_path):
    path = write_map(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    found = compare_maps(open_class_map(path), open_class_map(path))
    assert found.classes.names == ("land stays", "no other change")
