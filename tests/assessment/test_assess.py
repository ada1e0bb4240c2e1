"""Assessments: the right estimator, and a remark for all that a reader must know."""

import numpy as np
import pytest
from rasterio.transform import from_origin

from pointcover.assessment.assess import assess
from pointcover.assessment.class_maps import commonest, open_class_maps
from pointcover.assessment.sample import Size, draw_sample
from pointcover.assessment.sample_file import LabelledSample, read_sample, write_sample
from pointcover.assessment.settings import SampleSettings
from pointcover.labels import IGNORE_INDEX
from tests.assessment.maps import NAMES, draw_ids, label, truth_of, write_map
from tests.imagery import write_raster


@pytest.fixture
def path(tmp_path):
    return write_map(tmp_path / "a_classes.tif", draw_ids())


def sample_of(paths, labels=None, points=60, **settings):
    """A sample of maps in which each point has the class of the map, or what `labels` says."""
    block_px = settings.get("block_px", 1)
    maps = open_class_maps(paths, None, block_px)
    design = draw_sample(maps, SampleSettings(**settings), Size(points=points))
    given = np.array([point.stratum for point in design.points])
    if labels is not None:
        given = labels(design)
    return maps, LabelledSample(design, np.asarray(given, np.int64))


def test_a_map_that_is_right_has_the_areas_of_its_pixels(path):
    maps, sample = sample_of([path])
    found = assess(maps, sample)
    assert found.estimator == "stratified, strata are the map's classes (Olofsson et al. 2014)"
    assert found.estimates.overall.value == 1
    assert [one.value for one in found.estimates.areas] == pytest.approx(found.mapped_m2)
    ids = draw_ids()
    assert found.mapped_pixels.tolist() == [(ids == k).sum() for k in range(3)]
    assert found.mapped_m2.tolist() == [100 * (ids == k).sum() for k in range(3)]


def test_areas_come_nearer_to_the_truth_than_the_pixels_of_a_biased_map(tmp_path):
    truth = np.repeat(np.arange(100) < 30, 100).reshape(100, 100).astype(np.uint8)
    mapped = truth.copy()
    mapped[30:42] = 1  # 12 % of the land is taken for water
    path = write_map(tmp_path / "a.tif", mapped, names=("land", "water"))
    maps, sample = sample_of(
        [path], lambda design: [truth[point.row, point.col] for point in design.points], 400
    )
    found = assess(maps, sample)
    water = found.estimates.areas[1]
    assert found.mapped_m2[1] == 4200 * 100
    assert abs(water.value - 3000 * 100) < water.half_width < 1200 * 100
    assert found.estimates.users[1].value == pytest.approx(30 / 42, abs=0.06)
    assert found.estimates.producers[1].value == 1


def test_labels_go_through_the_file(path, tmp_path):
    maps = open_class_maps([path])
    design = draw_sample(maps, SampleSettings(), Size(points=60))
    write_sample(tmp_path / "s.gpkg", design, maps)
    label(tmp_path / "s.gpkg", truth_of(path))
    assert assess(maps, read_sample(tmp_path / "s.gpkg")).estimates.overall.value == 1


def test_a_simple_random_sample_is_poststratified(path):
    maps, sample = sample_of([path], lambda d: [p.id % 3 for p in d.points], allocation="simple")
    found = assess(maps, sample)
    assert found.estimator == "simple random sample, poststratified by the map's classes"
    rows = found.estimates.proportions.sum(axis=1)
    assert rows == pytest.approx(found.mapped_m2 / found.total_m2)  # known, not estimated


def test_a_simple_random_sample_that_misses_a_class_is_not_poststratified(tmp_path):
    ids = np.zeros((50, 50), np.uint8)
    ids[0, 0] = 1
    path = write_map(tmp_path / "a.tif", ids)
    maps, sample = sample_of([path], lambda d: [0] * 20, 20, allocation="simple")
    assert assess(maps, sample).estimator == "simple random sample"


def test_blocks_are_assessed_as_blocks(path):
    maps, sample = sample_of([path], points=40, block_px=5)
    found = assess(maps, sample)
    assert found.estimates.overall.value == 1
    assert found.mapped_pixels.sum() == 12 * 16
    assert [one.value for one in found.estimates.areas] == pytest.approx(found.mapped_m2)


def test_a_new_map_is_assessed_with_the_strata_of_the_old_one(path, tmp_path):
    new_ids = draw_ids(seed=9)
    new_ids[draw_ids() == 255] = 255
    new = write_map(tmp_path / "new.tif", new_ids)
    _, sample = sample_of(
        [path], lambda design: [new_ids[p.row, p.col] for p in design.points], points=300
    )
    sample.labels[sample.labels == 255] = 0
    found = assess(open_class_maps([new]), sample, other_map=True)
    assert found.estimator == "stratified, strata are not the map's classes (Stehman 2014)"
    assert found.estimates.overall.value == 1
    missing = sum(new_ids[p.row, p.col] == 255 for p in sample.design.points)
    assert missing
    assert f"at {missing} labelled points the map has no data" in found.remarks[0]
    inside = sum(one.value for one in found.estimates.areas)
    assert inside == pytest.approx(found.total_m2, rel=0.1)


def test_a_new_map_may_have_another_crs(path, tmp_path):
    import rasterio
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    ids = draw_ids()
    with rasterio.open(path) as old:
        place, width, height = calculate_default_transform(
            old.crs, "EPSG:4326", old.width, old.height, *old.bounds, resolution=0.00003
        )
        warped = np.full((height, width), 255, np.uint8)
        options = {"resampling": Resampling.nearest, "src_nodata": 255, "dst_nodata": 255}
        reproject(
            ids,
            warped,
            src_transform=old.transform,
            src_crs=old.crs,
            dst_transform=place,
            dst_crs="EPSG:4326",
            **options,
        )
    new = write_map(tmp_path / "new.tif", warped, crs="EPSG:4326", transform=place)
    _, sample = sample_of([path])
    found = assess(open_class_maps([new]), sample, other_map=True)
    assert found.estimates.overall.value > 0.95
    assert found.total_m2 == pytest.approx((ids != 255).sum() * 100, rel=0.01)


def test_blocks_of_a_new_map_on_the_same_grid_are_the_same_land(path, tmp_path):
    new_ids = draw_ids(seed=9)
    new = write_map(tmp_path / "new.tif", new_ids)
    maps = open_class_maps([new], block_px=5)
    blocks = commonest(new_ids, 5)
    _, sample = sample_of(
        [path], lambda design: [blocks[p.row, p.col] for p in design.points], 150, block_px=5
    )
    found = assess(maps, sample, other_map=True)
    assert found.estimator == "stratified, strata are not the map's classes (Stehman 2014)"
    assert found.estimates.overall.value == 1
    assert found.mapped_pixels.sum() == 12 * 16
    wrong = sample.labels == 1
    sample.labels[wrong] = 0
    assert assess(maps, sample, other_map=True).estimates.overall.value < 1


@pytest.mark.parametrize("x", [500_000 + 3, 500_000 + 20])
def test_blocks_of_a_new_map_on_another_grid_are_refused(path, tmp_path, x):
    new = write_map(tmp_path / "new.tif", draw_ids(seed=9), x=x)
    _, sample = sample_of([path], points=40, block_px=5)
    with pytest.raises(ValueError, match="cuts the land into other blocks"):
        assess(open_class_maps([new], block_px=5), sample, other_map=True)


def test_a_sample_of_another_map_is_refused(path, tmp_path):
    other = write_map(tmp_path / "b_classes.tif", draw_ids(seed=4))
    _, sample = sample_of([path])
    with pytest.raises(ValueError, match="the sample is of other maps") as caught:
        assess(open_class_maps([other]), sample)
    assert "b_classes.tif; missing a_classes): give the maps that it was" in str(caught.value)
    assert "--other-map" in str(caught.value)


def test_a_copy_of_the_map_under_another_name_and_compression_is_the_map(path, tmp_path):
    copy = write_map(tmp_path / "copy.tif", draw_ids(), compress="deflate", tiled=True)
    _, sample = sample_of([path])
    assert assess(open_class_maps([copy]), sample).estimates.overall.value == 1


def test_a_map_that_is_missing_is_told_and_the_order_does_not_matter(tmp_path):
    paths = [
        write_map(tmp_path / f"{name}.tif", draw_ids(seed=seed), x=500_000 + 800 * seed)
        for seed, name in enumerate("ab")
    ]
    _, sample = sample_of(paths)
    found = assess(open_class_maps(paths[::-1]), sample)
    assert found.estimates.overall.value == 1
    with pytest.raises(ValueError, match=r"the sample is of other maps \(missing b\)"):
        assess(open_class_maps(paths[:1]), sample)


def test_a_map_of_other_classes_is_refused(path, tmp_path):
    other = write_map(tmp_path / "b.tif", draw_ids(), names=("x", "y", "z"))
    _, sample = sample_of([path])
    with pytest.raises(ValueError, match="the sample has the classes land, water, road, but"):
        assess(open_class_maps([other]), sample)


def test_points_without_a_class_are_left_out_and_told(path):
    maps, sample = sample_of([path])
    sample.labels[:5] = IGNORE_INDEX
    found = assess(maps, sample)
    assert found.labelled == 55
    assert "5 of 60 points have no class (id 1, 2, 3, 4, 5) and are left out" in found.remarks[0]


def test_a_stratum_without_a_labelled_point_is_refused(path):
    maps, sample = sample_of([path])
    sample.labels[[point.stratum == 2 for point in sample.design.points]] = IGNORE_INDEX
    with pytest.raises(ValueError, match="no labelled point in stratum 'road'"):
        assess(maps, sample)


def test_a_stratum_with_one_labelled_point_is_told(path):
    maps, sample = sample_of([path])
    roads = [n for n, point in enumerate(sample.design.points) if point.stratum == 2]
    sample.labels[roads[1:]] = IGNORE_INDEX
    found = assess(maps, sample)
    assert any("stratum 'road' has one labelled point" in text for text in found.remarks)
    assert found.estimates.overall.half_width is None
    assert found.estimates.users[0].half_width is not None
    assert any("only 1 point on 'road'" in text or "all 1 points" in text for text in found.remarks)


def test_classes_with_few_points_and_without_are_told(path):
    maps, sample = sample_of([path], lambda d: [1 if p.id == 1 else 0 for p in d.points])
    remarks = " ".join(assess(maps, sample).remarks)
    assert "only 1 point labelled 'water'" in remarks
    assert "no point was labelled 'road'" in remarks


def test_an_interval_without_width_is_told(path):
    maps, sample = sample_of([path])
    remarks = " ".join(assess(maps, sample).remarks)
    assert "points on 'land' in the map are right, so its interval has no width" in remarks
    assert "points labelled 'land' are 'land' in the map, so its producer's accuracy" in remarks
    assert maps[0].classes.names == NAMES


def test_pixels_in_degrees_count_by_their_area_on_the_ground(tmp_path):
    ids = draw_ids(60, 40)
    place = from_origin(20, 70, 0.01, 0.3)  # from 70 to 52 degrees north
    path = write_map(tmp_path / "a.tif", ids, crs="EPSG:4326", transform=place)
    maps, sample = sample_of([path], points=90)
    areas = np.array([point.area_m2 for point in sample.design.points])
    assert areas.max() > 1.5 * areas.min()
    found = assess(maps, sample)
    assert [one.value for one in found.estimates.areas] == pytest.approx(found.mapped_m2)
    assert found.estimates.overall.value == 1


def test_maps_of_several_pixel_sizes_are_one_population(tmp_path):
    paths = [
        write_map(tmp_path / "a.tif", draw_ids(seed=0)),
        write_map(tmp_path / "b.tif", draw_ids(seed=1), transform=from_origin(600_000, 0, 20, 20)),
    ]
    found = assess(*sample_of(paths))
    assert [one.value for one in found.estimates.areas] == pytest.approx(found.mapped_m2)


def test_strata_of_a_file_are_those_of_stehman(path, tmp_path):
    halves = np.array([[0, 1]], np.uint8)
    write_raster(tmp_path / "s.tif", halves, transform=from_origin(500_000, 600_000, 400, 600))
    maps = open_class_maps([path])
    design = draw_sample(maps, SampleSettings(), Size(points=60), tmp_path / "s.tif")
    ids = maps[0].read_ids(next(maps[0].windows()))
    labels = np.array([ids[point.row, point.col] for point in design.points], np.int64)
    found = assess(maps, LabelledSample(design, labels))
    assert found.estimator == "stratified, strata are not the map's classes (Stehman 2014)"
    assert found.estimates.overall.value == 1
    assert sum(one.value for one in found.estimates.areas) == pytest.approx(found.total_m2)
