"""Polygons are the map's areas: none too small, no gaps between them, in its place and colours."""

from xml.etree import ElementTree

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from scipy import ndimage

from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.maps import polygons
from pointcover.maps import trace as outlines
from pointcover.maps.polygons import write_polygons
from pointcover.maps.trace import trace_areas
from tests.imagery import write_raster

CLASSES = ClassTable(("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))


def write(path, mask, **options):
    return write_raster(path, mask.astype(np.uint8), nodata=IGNORE_INDEX, **options)


def read(path):
    return geopandas.read_file(path, layer="classes")


def rough_mask(height, width, seed=0):
    generator = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(generator.normal(size=(height, width)), 3)
    field = field / field.std() + ndimage.gaussian_filter(generator.normal(size=field.shape), 0.7)
    mask = np.digitize(field, [-0.5, 0.5]).astype(np.uint8)
    mask[20:40, 30:60] = IGNORE_INDEX
    return mask


def trace(path, least_px=1):
    """Outlines and values of the areas of a small mask, as they are traced."""
    (block,) = trace_areas(path, least_px, path.parent)
    found = [(shapely.geometry.shape(polygon), value) for polygon, value in block.outlines]
    return [(shape, value) for shape, value in found if value < IGNORE_INDEX]


def test_a_square_is_a_square_with_its_name_and_area(tmp_path):
    mask = np.zeros((40, 50))
    mask[10:20, 15:35] = 2
    write_polygons(tmp_path / "a.gpkg", write(tmp_path / "a.tif", mask), CLASSES, 1)
    table = read(tmp_path / "a.gpkg").set_index("class")
    assert sorted(table.index) == ["a", "c"]
    assert (table.loc["c", "area_px"], table.loc["c", "area_m2"]) == (200, 200 / 16)
    assert table.crs.to_epsg() == 2180
    wanted = shapely.box(500_003.75, 599_995, 500_008.75, 599_997.5)
    assert shapely.equals(table.loc["c", "geometry"], wanted)
    assert table.loc["a", "area_px"] == 1800


def test_polygons_cover_the_data_without_gaps_and_overlaps(tmp_path):
    mask = rough_mask(200, 240)
    count = write_polygons(tmp_path / "a.gpkg", write(tmp_path / "a.tif", mask), CLASSES, 20)
    table = read(tmp_path / "a.gpkg")
    assert len(table) == count > 20
    shapes = table.geometry.values
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(np.asarray(shapes))
    assert shapely.area(shapes).sum() == pytest.approx((mask < 255).sum() / 16, rel=0.002)
    assert table.area_px.sum() == (mask < 255).sum()
    assert table.area_m2.sum() == pytest.approx((mask < 255).sum() / 16)


def test_outlines_are_smoother_than_pixels_and_stay_beside_them(tmp_path):
    rows, cols = np.mgrid[:120, :120]
    mask = (cols > 20 + rows // 3).astype(np.uint8)  # a slanted border of steps
    write_polygons(tmp_path / "a.gpkg", write(tmp_path / "a.tif", mask), CLASSES, 20)
    table = read(tmp_path / "a.gpkg").set_index("class_id")
    corners = [len(shape.exterior.coords) for shape in table.geometry]
    assert max(corners) < 30  # 80 steps of two corners before
    raw = shapely.unary_union([shape for shape, value in trace(tmp_path / "a.tif") if value])
    raw = shapely.affinity.affine_transform(raw, [0.25, 0, 0, -0.25, 500_000, 600_000])
    assert shapely.hausdorff_distance(table.geometry[1], raw) < 2 * 0.25


def test_areas_below_the_minimum_are_merged_if_they_have_a_neighbour(tmp_path):
    mask = rough_mask(200, 240)
    mask[25:28, 40:44] = 1  # an island of 12 px in what has no data
    path = write(tmp_path / "a.tif", mask)
    areas = np.array([shape.area for shape, _ in trace(path, 50)])
    assert sorted(areas)[0] == 12
    assert (np.sort(areas)[1:] >= 50).all()
    assert areas.sum() == (mask < 255).sum()
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_small_area_is_merged_into_its_largest_neighbour(tmp_path):
    mask = np.zeros((30, 30))
    mask[:, 20:] = 1
    mask[10:12, 18:21] = 2
    traced = trace(write(tmp_path / "a.tif", mask), 7)
    assert {value for _, value in traced} == {0, 1}
    assert sum(shape.area for shape, value in traced if value == 0) == 600 + 2


def test_a_minimum_of_one_pixel_keeps_all_areas(tmp_path):
    mask = np.zeros((20, 20))
    mask[10, 10] = 1
    mask[:5] = IGNORE_INDEX
    mask[2, 2] = 2
    write_polygons(tmp_path / "a.gpkg", write(tmp_path / "a.tif", mask), CLASSES, 1)
    table = read(tmp_path / "a.gpkg").set_index("class")
    assert table.area_px.to_dict() == {"a": 299, "b": 1, "c": 1}
    assert not shapely.is_empty(table.geometry.values).any()


# In blocks ---------------------------------------------------------------------------------------


def cut(monkeypatch, rows):
    """Let a mask be traced so many rows at a time, and written some polygons at a time."""
    monkeypatch.setattr(outlines, "LEAST_ROWS", rows)
    monkeypatch.setattr(outlines.trace_areas, "__defaults__", (1,))
    monkeypatch.setattr(polygons, "AT_ONCE", 7)


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_a_map_in_blocks_has_the_same_areas_as_in_one(tmp_path, monkeypatch, rows, seed):
    mask = rough_mask(90, 70, seed)
    mask[:, 68:], mask[50:52, 10:30] = 1, IGNORE_INDEX
    path = write(tmp_path / "a.tif", mask)
    write_polygons(tmp_path / "whole.gpkg", path, CLASSES, 3)
    whole = read(tmp_path / "whole.gpkg")
    cut(monkeypatch, rows)
    count = write_polygons(tmp_path / "cut.gpkg", path, CLASSES, 3)
    found = read(tmp_path / "cut.gpkg")
    assert count == len(found) == len(whole)
    wanted = sorted(zip(whole.class_id, whole.area_px, strict=True))
    assert sorted(zip(found.class_id, found.area_px, strict=True)) == wanted
    shapes = np.asarray(found.geometry.values)
    assert (shapely.get_type_id(shapes) == 3).all()
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    assert shapely.area(shapes).sum() == pytest.approx((mask < 255).sum() / 16, rel=0.002)
    assert found.area_m2.sum() == pytest.approx((mask < 255).sum() / 16)


def test_areas_are_4_connected(tmp_path, monkeypatch):
    """A ring, a spiral and areas that touch at corners, over the edges of blocks of three rows."""
    mask = np.zeros((24, 30))
    mask[2:22, 2:22] = 1
    mask[5:19, 5:19] = 2
    mask[8:16, 8:16] = 1  # within the ring, and none of it
    mask[8, 10:12] = 2  # bay at an edge
    mask[::2, 24::2], mask[1::2, 25::2] = 1, 1  # a chessboard
    cut(monkeypatch, 3)
    write_polygons(tmp_path / "a.gpkg", write(tmp_path / "a.tif", mask), CLASSES, 1)
    table = read(tmp_path / "a.gpkg")
    counts = {value: ndimage.label(mask == value)[1] for value in (0, 1, 2)}
    assert table.class_id.value_counts().to_dict() == counts
    assert shapely.coverage_is_valid(np.asarray(table.geometry.values))
    assert shapely.area(table.geometry.values).sum() == pytest.approx(24 * 30 / 16, rel=0.01)


def test_without_a_transform_coordinates_are_pixels(tmp_path):
    mask = np.zeros((20, 30))
    mask[5:15, 10:20] = 1
    identity = rasterio.Affine.identity()
    path = write(tmp_path / "a.tif", mask, crs=None, transform=identity)
    write_polygons(tmp_path / "a.gpkg", path, CLASSES, 1)
    table = read(tmp_path / "a.gpkg").set_index("class")
    assert table.crs is None or "Undefined" in str(table.crs)
    assert table.area_m2.isna().all()
    assert table.loc["b", "geometry"].bounds == (10, -15, 20, -5)


def test_a_map_without_data_has_no_polygon(tmp_path):
    path = write(tmp_path / "a.tif", np.full((20, 30), IGNORE_INDEX))
    assert write_polygons(tmp_path / "a.gpkg", path, CLASSES, 5) == 0
    assert len(read(tmp_path / "a.gpkg")) == 0


def test_the_style_lies_in_the_file_and_beside_it(tmp_path):
    mask = rough_mask(60, 70)
    write_polygons(tmp_path / "a.gpkg", write(tmp_path / "a.tif", mask), CLASSES, 5)
    style = (tmp_path / "a.qml").read_text()
    table = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="layer_styles")
    assert table.styleQML[0] == style
    symbols = ElementTree.fromstring(style).iter("symbol")
    colours = [symbol.find(".//Option[@name='color']").get("value") for symbol in symbols]
    assert colours == ["1,2,3,255", "4,5,6,255", "7,8,9,255"]


def test_the_same_map_gives_the_same_bytes(tmp_path):
    path = write(tmp_path / "a.tif", rough_mask(60, 70))
    for name in ("one", "two"):
        write_polygons(tmp_path / f"{name}.gpkg", path, CLASSES, 5)
    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes()
