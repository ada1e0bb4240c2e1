"""Vector files without a CRS are in pixels, where no image has a CRS; y goes down, or below 0."""

import json
import re

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely

from tests.vectors.formats.labels import burn, images_of, mask_of, read

pytestmark = pytest.mark.filterwarnings("ignore:'crs' was not provided")

BOX = shapely.box(4, 3, 10, 8)
DRIVERS = {"gpkg": "GPKG", "geojson": "GeoJSON", "shp": "ESRI Shapefile"}


def write(path, shapes, crs=None, **columns):
    columns = {"class": ["water"] * len(shapes)} | columns
    table = geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs)
    pyogrio.write_dataframe(table, path, driver=DRIVERS[path.suffix[1:]])
    return path


def up(shape):
    """Turn a shape in columns and rows into what QGIS draws on an image without CRS."""
    return shapely.transform(shape, lambda xy: xy * (1, -1))


def refusal(path, **options):
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("ending", DRIVERS)
@pytest.mark.parametrize("turn", [lambda shape: shape, up])
def test_features_without_a_crs_are_placed_in_pixels(tmp_path, ending, turn):
    shapes = [turn(BOX), turn(shapely.box(20, 30, 22, 50))]  # over the lower edge
    path = write(tmp_path / f"a.{ending}", shapes, image=["photos/a.png", "b.png"])
    found = read(path)
    np.testing.assert_array_equal(burn(found), mask_of(water=(slice(3, 8), slice(4, 10))))
    np.testing.assert_array_equal(burn(found, "b"), mask_of(water=(slice(30, 40), slice(20, 22))))


def test_points_and_lines_of_the_only_image_need_not_name_it(tmp_path):
    shapes = [shapely.Point(1, -2), shapely.LineString([(3.5, -5.5), (9.5, -5.5)])]
    found = read(write(tmp_path / "a.geojson", shapes), images=images_of("a.png"))
    wanted = mask_of(water=(5, slice(3, 10)))
    wanted[2, 1] = 1
    np.testing.assert_array_equal(burn(found), wanted)


def test_a_null_crs_is_none_and_the_type_may_be_the_last_member(tmp_path):
    feature = {
        "type": "Feature",
        "properties": {"class": "water", "padding": "x" * (1 << 16)},
        "geometry": {"coordinates": [3, 2], "type": "Point"},
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"crs": None, "features": [feature], "type": "FeatureCollection"}))
    found = read(path, images=images_of("a.png"))
    np.testing.assert_array_equal(burn(found), mask_of(water=(2, 3)))


def test_layers_without_a_crs_are_joined(tmp_path):
    path = tmp_path / "a.gpkg"
    for layer, column in (("one", 1), ("two", 2)):
        table = geopandas.GeoDataFrame({"class": ["land"]}, geometry=[shapely.Point(column, 0.5)])
        pyogrio.write_dataframe(table, path, layer=layer, driver="GPKG")
    found = read(path, images=images_of("a.png"))
    assert found.fids.tolist() == ["one:1", "two:1"]
    np.testing.assert_array_equal(burn(found), mask_of(land=(0, [1, 2])))
    table = geopandas.GeoDataFrame(
        {"class": ["land"]}, geometry=[shapely.Point(9, 9)], crs="EPSG:2180"
    )
    pyogrio.write_dataframe(table, path, layer="three", driver="GPKG")
    assert "has layers with a CRS and layers without one" in refusal(path)


@pytest.mark.parametrize("crs", ["EPSG:2180", "EPSG:4326"])
def test_a_file_with_a_crs_is_not_placed_on_images_without_one(tmp_path, crs):
    path = write(tmp_path / "a.gpkg", [shapely.Point(1, 2)], crs=crs)
    with pytest.raises(ValueError, match="or label in pixels, in a file without a CRS"):
        burn(read(path, images=images_of("a.png")))


def test_a_file_without_a_crs_is_refused_where_an_image_has_one_or_a_transform(tmp_path):
    path = write(tmp_path / "a.gpkg", [shapely.Point(1, 2)])
    said = refusal(path, images=images_of("a.png", is_placed=True))
    assert "has no CRS, so it cannot be placed" in said
    assert "Coordinates are pixels only where no image has a CRS or a world file" in said


def test_features_that_go_up_and_down_are_refused(tmp_path):
    path = write(tmp_path / "a.gpkg", [shapely.Point(1, 2), up(BOX)], image=["a.png", "a.png"])
    assert "y is positive in 1 parts and negative in 1" in refusal(path)


def test_features_that_cannot_be_placed_are_listed_by_id(tmp_path):
    shapes = [shapely.Point(1, 2), shapely.Point(500, 2), shapely.Point(1, 2), BOX]
    path = write(tmp_path / "a.gpkg", shapes, image=["a.png", "a.png", "z.png", None])
    said = refusal(path).splitlines()
    assert said[0].endswith("its coordinates are pixels, and 3 features cannot be placed:")
    assert said[1:] == [
        "  - feature 3: image 'z.png' is not in the dataset, which has photos/a.png, photos/b.png",
        "  - feature 4: it does not say on which of 2 images it is: add a column 'image' with the "
        "image's file name",
        "  - feature 2: point 500, 2 is outside image 'photos/a.png' of 50 × 40 px (columns, rows)",
    ]


def test_a_long_list_of_features_is_shortened(tmp_path):
    path = write(tmp_path / "a.gpkg", [shapely.Point(1, 2)] * 30)
    assert refusal(path).endswith("\n  - and 20 more")
