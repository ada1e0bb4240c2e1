"""Samples: seeded, blind, of many maps as one population, with their probabilities."""

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.transform import from_origin

from pointcover.assessment import class_maps
from pointcover.assessment.class_maps import open_class_map, open_class_maps
from pointcover.assessment.sample import Size, draw_sample
from pointcover.assessment.sample_file import read_design, read_sample, write_sample
from pointcover.assessment.settings import SampleSettings
from tests.assessment.maps import NAMES, draw_ids, label, truth_of, write_map
from tests.imagery import write_raster


@pytest.fixture
def maps(tmp_path):
    """Two maps side by side."""
    paths = [
        write_map(tmp_path / f"{name}_classes.tif", draw_ids(seed=seed), x=500_000 + 800 * seed)
        for seed, name in enumerate("ab")
    ]
    return open_class_maps(paths)


def draw(maps, points=60, strata_file=None, **settings):
    return draw_sample(maps, SampleSettings(**settings), Size(points=points), strata_file)


def ids_of(maps):
    return [each.read_ids(next(each.windows())) for each in maps]


def test_strata_are_the_classes_of_all_maps_together(maps):
    design = draw(maps)
    whole = np.concatenate([ids.ravel() for ids in ids_of(maps)])
    assert [(one.name, one.units) for one in design.strata] == [
        (name, (whole == k).sum()) for k, name in enumerate(NAMES)
    ]
    assert [one.area_m2 for one in design.strata] == [one.units * 100 for one in design.strata]
    assert sum(one.points for one in design.strata) == len(design.points) == 60
    assert {point.map for point in design.points} == {0, 1}
    for point in design.points:
        assert ids_of(maps)[point.map][point.row, point.col] == point.stratum


def test_points_are_drawn_once_and_by_the_seed_alone(maps, monkeypatch):
    first = draw(maps)
    places = {(point.map, point.row, point.col) for point in first.points}
    assert len(places) == 60
    assert draw(maps) == first
    assert draw(maps, seed=2).points != first.points
    monkeypatch.setattr(class_maps, "WINDOW_PX", 16)  # other windows, other order of drawing
    assert draw(maps).strata == first.strata


def test_every_unit_is_drawn_as_often_as_any_other_of_its_stratum(tmp_path, monkeypatch):
    ids = np.zeros((6, 7), np.uint8)
    ids[:, 4:] = 1
    monkeypatch.setattr(class_maps, "WINDOW_PX", 4)
    maps = open_class_maps([write_map(tmp_path / "a.tif", ids, names=("land", "water"))])
    drawn = np.zeros(ids.shape, int)
    for seed in range(400):
        for point in draw(maps, points=12, minimum=2, allocation="equal", seed=seed).points:
            drawn[point.row, point.col] += 1
    for class_id, expected in ((0, 400 * 6 / 24), (1, 400 * 6 / 18)):
        counts = drawn[ids == class_id]
        assert counts.mean() == pytest.approx(expected)
        assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)


def test_the_file_is_blind_and_has_the_inclusion_probabilities(maps, tmp_path):
    path = tmp_path / "sample.gpkg"
    design = draw(maps, allocation="equal")
    assert write_sample(path, design, maps) == {"sample": 60}
    table = geopandas.read_file(path, layer="sample")
    assert list(table) == ["class", "id", "unit", "map", "inclusion_probability", "geometry"]
    assert (table["class"] == "").all()
    assert table["id"].tolist() == list(range(1, 61))
    for point, chance in zip(design.points, table["inclusion_probability"], strict=True):
        stratum = design.strata[point.stratum]
        assert chance == pytest.approx(stratum.points / stratum.units)
    assert read_design(path) == design
    style = (tmp_path / "sample.qml").read_text()
    assert "ValueMap" in style
    assert all(name in style for name in NAMES)
    # In the order of the file strata are mixed, so that a part of it is a sample, too.
    assert len({point.stratum for point in design.points[:12]}) > 1


def test_points_lie_in_the_middle_of_their_pixels(maps, tmp_path):
    design = draw(maps)
    for point in design.points:
        x, y = maps[point.map].info.transform @ (point.col + 0.5, point.row + 0.5)
        assert (point.x, point.y) == (x, y)


def test_a_layer_a_crs(tmp_path):
    paths = [
        write_map(tmp_path / "a.tif", draw_ids(seed=0)),
        write_map(tmp_path / "b.tif", draw_ids(seed=1), crs="EPSG:32634", x=300_000, y=5_800_000),
    ]
    maps = open_class_maps(paths)
    path = tmp_path / "sample.gpkg"
    layers = write_sample(path, draw(maps), maps)
    assert sorted(layers) == ["sample_1", "sample_2"]
    label(path, truth_of(*paths))
    found = read_sample(path)
    assert (found.labels == [point.stratum for point in found.design.points]).all()


def test_a_simple_random_sample_has_one_stratum(maps):
    design = draw(maps, allocation="simple")
    assert [one.name for one in design.strata] == ["all"]
    assert design.strata_are == "none"


def test_blocks_have_the_class_of_most_of_their_pixels(tmp_path):
    ids = np.zeros((7, 10), np.uint8)
    ids[:4, 4:8] = 1
    ids[4:, 8:] = 255
    maps = open_class_maps([write_map(tmp_path / "a.tif", ids, names=("land", "water"))], None, 4)
    design = draw(maps, points=5, block_px=4, minimum=2)
    assert [(one.name, one.units) for one in design.strata] == [("land", 4), ("water", 1)]
    assert [one.area_m2 for one in design.strata] == [(16 + 12 + 12 + 8) * 100, 1600]
    places = sorted((point.row, point.col) for point in design.points)
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_strata_of_a_raster_of_another_grid_and_of_polygons(maps, tmp_path):
    quarters = np.array([[0, 1], [2, 3]], np.uint8)
    write_raster(
        tmp_path / "strata.tif",
        quarters,
        transform=from_origin(500_000, 600_000, 800, 300),
    )
    design = draw(maps, strata_file=tmp_path / "strata.tif")
    assert [one.name for one in design.strata] == [f"stratum {number}" for number in range(4)]
    assert design.strata_are == "file"
    areas = geopandas.GeoDataFrame(
        {"stratum": ["west", "east"]},
        geometry=[
            shapely.box(499_000, 599_000, 500_400, 601_000),
            shapely.box(500_400, 599_000, 502_000, 601_000),
        ],
        crs="EPSG:2180",
    )
    areas.to_file(tmp_path / "strata.gpkg")
    design = draw(maps, strata_file=tmp_path / "strata.gpkg", allocation="equal")
    assert [(one.name, one.points) for one in design.strata] == [("east", 30), ("west", 30)]
    areas.iloc[:1].to_file(tmp_path / "strata.gpkg")
    with pytest.raises(ValueError, match=r"has no stratum for .* units of"):
        draw(maps, strata_file=tmp_path / "strata.gpkg")


def test_a_size_by_half_width_is_the_textbook_one(maps):
    design = draw_sample(maps, SampleSettings(expected_accuracy=0.9), Size(half_width=0.05))
    assert len(design.points) == pytest.approx(1.96**2 * 0.9 * 0.1 / 0.05**2, abs=2)
    assert "138 points" in design.assumed[0] or "139 points" in design.assumed[0]
    assert "0.9 for each class" in design.assumed[0]


def test_a_size_by_the_area_of_a_class_says_what_was_assumed(maps):
    by_percent = draw_sample(maps, SampleSettings(), Size(area="road=20%"))
    assert "of the area of 'road', which has" in by_percent.assumed[0]
    road_ha = by_percent.strata[2].area_m2 / 10_000
    in_ha = draw_sample(maps, SampleSettings(), Size(area=f"road={0.2 * road_ha:.9f}ha"))
    assert len(in_ha.points) == len(by_percent.points)
    narrower = draw_sample(maps, SampleSettings(), Size(area="road=10%"))
    assert len(narrower.points) > 3 * len(by_percent.points)


@pytest.mark.parametrize("text", ["road", "road=", "lake=10%", "road=0%", "road=10"])
def test_a_half_width_that_says_nothing_is_refused(maps, text):
    with pytest.raises(ValueError, match="--area-half-width: got"):
        draw_sample(maps, SampleSettings(), Size(area=text))


@pytest.mark.parametrize("said", [{}, {"points": 5, "half_width": 0.1}])
def test_one_size_is_wanted(said):
    with pytest.raises(ValueError, match="sizes of the sample are said, wanted one"):
        Size(**said)


def test_simple_and_a_file_of_strata_are_refused(maps, tmp_path):
    with pytest.raises(ValueError, match="allocation 'simple' has no strata"):
        draw(maps, strata_file=tmp_path / "x.tif", allocation="simple")


def test_maps_that_overlap_are_refused_with_the_area(tmp_path):
    paths = [
        write_map(tmp_path / "a.tif", np.zeros((20, 30), np.uint8)),
        write_map(tmp_path / "b.tif", np.zeros((20, 30), np.uint8), x=500_000 + 250),
    ]
    with pytest.raises(ValueError, match=r"a.tif and .*b.tif overlap on 1 ha, .* twice"):
        draw(open_class_maps(paths), points=20)


def test_maps_that_overlap_without_data_are_sampled(tmp_path):
    ids = np.zeros((20, 30), np.uint8)
    ids[:, 25:] = 255
    paths = [
        write_map(tmp_path / "a.tif", ids),
        write_map(tmp_path / "b.tif", np.zeros((20, 30), np.uint8), x=500_000 + 250),
    ]
    assert draw(open_class_maps(paths), points=20).strata[0].units == 20 * 55


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crs": None}, "has no CRS, so a point of it is nowhere"),
        ({"names": ()}, "does not say what its classes are called"),
        ({"names": ("a", "b")}, "has pixels of id 2, and names 2 classes"),
    ],
)
def test_maps_that_cannot_be_sampled_are_refused(tmp_path, options, said):
    path = write_map(tmp_path / "a.tif", draw_ids(), **options)
    with pytest.raises(ValueError, match=said):
        draw(open_class_maps([path]))


def test_maps_without_data_of_other_classes_or_given_twice_are_refused(tmp_path):
    path = write_map(tmp_path / "a.tif", np.full((9, 9), 255, np.uint8))
    other = write_map(tmp_path / "b.tif", draw_ids(), names=("x", "y", "z"))
    with pytest.raises(ValueError, match="no pixel has data, so there is nothing to sample"):
        draw(open_class_maps([path]))
    with pytest.raises(ValueError, match="give maps of the same classes"):
        open_class_maps([path, other])
    with pytest.raises(ValueError, match="is given twice"):
        open_class_maps([path, path])


def test_names_may_be_said(tmp_path):
    path = write_map(tmp_path / "a.tif", draw_ids(), names=())
    maps = open_class_maps([path], ["x", "y", "z"])
    assert draw(maps).classes == ("x", "y", "z")


# The labelled file


@pytest.fixture
def written(maps, tmp_path):
    path = tmp_path / "sample.gpkg"
    write_sample(path, draw(maps), maps)
    return path


def change(path, edit):
    table = pyogrio.read_dataframe(path, layer="sample")
    pyogrio.write_dataframe(edit(table), path, layer="sample", driver="GPKG")


def refusal(path):
    with pytest.raises((ValueError, OSError)) as caught:
        read_sample(path)
    return str(caught.value)


def test_labels_come_back_by_id_in_any_case(maps, written):
    label(written, lambda number, x, y: ["land", "Water", "2"][number % 3])
    change(written, lambda table: table.sort_values("id", ascending=False))
    found = read_sample(written)
    assert found.labels.tolist() == [point.id % 3 for point in found.design.points]


def test_a_sample_that_nobody_labelled_is_told(written):
    assert "nobody has labelled any of its 60 points" in refusal(written)


def test_unknown_names_are_told_with_the_nearest(written):
    label(written, lambda number, x, y: "watre" if number == 5 else "land")
    said = refusal(written)
    assert "'watre'" in said
    assert "did you mean 'water'?" in said


def test_points_that_were_added_doubled_or_moved_are_told(written):
    label(written, lambda number, x, y: "land")

    def move(table):
        table.loc[3, "geometry"] = shapely.Point(0, 0)
        return table

    change(written, move)
    assert "has points that were moved (id 4)" in refusal(written)

    def double(table):
        table.loc[0, "id"] = table.loc[1, "id"]
        return table

    change(written, double)
    assert "has points more than once (id 2)" in refusal(written)

    def add(table):
        table.loc[1, "id"] = 999
        return table

    change(written, add)
    assert "has points that were not drawn (features 2)" in refusal(written)


def test_points_that_a_gis_saved_as_multipoints_are_points(written):
    label(written, lambda number, x, y: "land")

    def join(table):
        table["geometry"] = [shapely.MultiPoint([shape]) for shape in table.geometry]
        return table

    change(written, join)
    assert (read_sample(written).labels == 0).all()


def test_an_empty_sample_is_told(written):
    change(written, lambda table: table.iloc[:0])
    assert "has no point: draw the sample again" in refusal(written)


def test_files_that_are_no_sample_are_told(written, tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.gpkg")
    table = geopandas.read_file(written, layer="sample")
    table.to_file(tmp_path / "copy.gpkg", layer="sample")
    assert "has no design of a sample" in refusal(tmp_path / "copy.gpkg")
    table.drop(columns="class").to_file(written, layer="sample")
    assert "has no column 'class'" in refusal(written)
    (tmp_path / "text.gpkg").write_text("nothing")
    assert "has no design of a sample" in refusal(tmp_path / "text.gpkg")


def test_blocks_of_a_map_that_were_never_written_are_no_class(tmp_path):
    path = tmp_path / "a.tif"
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True}
    ids = np.ones((64, 128), np.uint8)
    ids[:, 64:] = 0  # GDAL writes no block of zeros then
    with pytest.raises(ValueError, match=r"row 0, column 64 was never written.* class 'land'"):
        open_class_map(write_map(path, ids, nodata=None, **options))
    assert open_class_map(write_map(path, ids, nodata=0, **options)).classes.names == NAMES


@pytest.mark.parametrize("name", ["", " ", "a\x07b"])
def test_a_map_with_a_class_name_that_cannot_be_shown_is_refused(tmp_path, name):
    path = write_map(tmp_path / "a.tif", draw_ids())
    with pytest.raises(ValueError, match="cannot be shown: wanted letters or digits"):
        open_class_map(path, [name, "b", "c"])
