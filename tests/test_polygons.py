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
from pointcover.outlines import trace_areas
from pointcover.vectors.polygons import write_polygons
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


def test_neighbours_fit_each_other_and_cover_what_has_data(tmp_path):
    mask = rough_mask(200, 240)
    count = write_polygons(tmp_path / "a.gpkg", write(tmp_path / "a.tif", mask), CLASSES, 20)
    table = read(tmp_path / "a.gpkg")
    assert len(table) == count > 20
    shapes = table.geometry.values
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(np.asarray(shapes))
    assert shapely.area(shapes).sum() == pytest.approx((mask < 255).sum() / 16, rel=0.002)
    assert table.area_m2.sum() == pytest.approx(shapely.area(shapes).sum())


def test_outlines_are_smoother_than_pixels_and_stay_beside_them(tmp_path):
    rows, cols = np.mgrid[:120, :120]
    mask = (cols > 20 + rows // 3).astype(np.uint8)  # a slanted border of steps
    write_polygons(tmp_path / "a.gpkg", write(tmp_path / "a.tif", mask), CLASSES, 20)
    table = read(tmp_path / "a.gpkg").set_index("class_id")
    corners = [len(shape.exterior.coords) for shape in table.geometry]
    assert max(corners) < 30  # 80 steps of two corners before
    raw = shapely.unary_union(
        [shapely.geometry.shape(p) for p, v in trace_areas(tmp_path / "a.tif", 1, tmp_path) if v]
    )
    raw = shapely.affinity.affine_transform(raw, [0.25, 0, 0, -0.25, 500_000, 600_000])
    assert shapely.hausdorff_distance(table.geometry[1], raw) < 2 * 0.25


def test_no_area_stays_that_is_smaller_than_asked_for_unless_it_has_no_neighbour(tmp_path):
    mask = rough_mask(200, 240)
    mask[25:28, 40:44] = 1  # an island of 12 px in what has no data
    path = write(tmp_path / "a.tif", mask)
    found = list(trace_areas(path, 50, tmp_path))
    areas = np.array([shapely.geometry.shape(polygon).area for polygon, _ in found])
    assert sorted(areas)[0] == 12
    assert (np.sort(areas)[1:] >= 50).all()
    assert areas.sum() == (mask < 255).sum()
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_small_area_goes_to_its_largest_neighbour(tmp_path):
    mask = np.zeros((30, 30))
    mask[:, 20:] = 1
    mask[10:12, 18:21] = 2
    values = {value for _, value in trace_areas(write(tmp_path / "a.tif", mask), 7, tmp_path)}
    assert values == {0, 1}
    shapes = [
        shapely.geometry.shape(polygon)
        for polygon, value in trace_areas(tmp_path / "a.tif", 7, tmp_path)
        if value == 0
    ]
    assert sum(shape.area for shape in shapes) == 600 + 2


def test_without_a_place_pixels_are_coordinates_as_a_gis_shows_them(tmp_path):
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
