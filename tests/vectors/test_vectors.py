"""Vector files are read strictly, burned onto the right pixels, and clicks survive the way back."""

import json
import logging
import re
import sqlite3
import sys
import unicodedata
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import geopandas
import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio.warp
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.raster.raster_io import RasterInfo, RasterReader, Window, write_mask
from pointcover.tileset.source_images import SourceImage, SourceImages
from pointcover.tileset.tiles import Tile, raster_path
from pointcover.vectors import features
from pointcover.vectors import rasterize as placing
from pointcover.vectors import read as reading
from pointcover.vectors.features import Annotations
from pointcover.vectors.point_labels import PointLabels
from pointcover.vectors.rasterize import PlacementReport, place_annotations
from pointcover.vectors.read import read_annotations
from pointcover.vectors.settings import VectorSettings
from pointcover.vectors.write_points import write_points as write_points_as
from tests.processes import run_python
from tests.tile_sets import lay_grid

CLASSES = ClassTable(("Water", "road", "forest"), ((0, 0, 255), (255, 255, 0), (0, 128, 0)))
SUFFIXES = {"gpkg": "GPKG", "geojson": "GeoJSON", "shp": "ESRI Shapefile"}
POLAND = "EPSG:2180"
LEFT, TOP = 500_000, 600_000
PLACE = from_origin(LEFT, TOP, 0.25, 0.25)
POINT = shapely.Point(LEFT + 1, TOP - 1)


IMAGES = SourceImages([SourceImage("z", "z.tif", 9, 9, 1, is_placed=True)])


def in_pixels(shape, place=PLACE):
    """Put a shape that is given in columns and rows where those pixels lie."""
    return shapely.transform(shape, lambda cols, rows: place @ (cols, rows), interleaved=False)


def write_features(path, shapes, values, crs=POLAND, **options):
    table = geopandas.GeoDataFrame({"kind": values}, geometry=list(shapes), crs=crs)
    pyogrio.write_dataframe(table, path, driver=SUFFIXES[path.suffix[1:]], **options)
    return path


def read(path, classes=CLASSES, column="kind", orthophotos=None, **options):
    settings = VectorSettings(**{"column": column, "ignore": ()} | options)
    return read_annotations(path, classes, settings, orthophotos)


def refusal(path, *args, **options):
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read(path, *args, **options)
    return str(caught.value)


def lay_orthophoto(height=40, width=50, crs=POLAND, place=PLACE):
    return RasterInfo(
        Path("ortho.tif"),
        height,
        width,
        3,
        "uint8",
        CRS.from_user_input(crs) if crs else None,
        place,
        False,
    )


def make(shapes, class_ids, crs=POLAND):
    """Make annotations of shapes in the CRS, without a file; the ids of features are 10, 11, …"""
    parts, owners = shapely.get_parts(np.array(shapes, object), return_index=True)
    return Annotations(
        path=Path("mine.gpkg"),
        crs=(pyproj.CRS(crs),),
        fids=np.arange(10, 10 + len(shapes)).astype(object),
        class_ids=np.array(class_ids, np.uint8),
        parts=parts,
        owners=owners,
        orthophotos=np.full(len(shapes), "", object),
        layers=np.zeros(len(parts), np.intp),
        read=len(shapes),
        ignored=0,
        without_geometry=(),
    )


def burn(annotations, grid, tile_px=None, all_touched=False, orthophoto="a"):
    """Burn a whole orthophoto, tile by tile if a size is given."""
    report = PlacementReport(annotations)
    placement = place_annotations(
        annotations, grid, report, orthophoto=orthophoto, all_touched=all_touched
    )
    mask = np.zeros((grid.height, grid.width), np.uint8)
    for window in lay_grid(grid.height, grid.width, tile_px or max(mask.shape)):
        mask[window.toslices()] = placement.burn(window)
    return mask, report


def burn_pixels(shapes, class_ids, **options):
    """Burn shapes that are given in pixels; give the labelled pixels: {(row, col): class}."""
    mask, report = burn(
        make([in_pixels(s) for s in shapes], class_ids), lay_orthophoto(), **options
    )
    labels = {(int(r), int(c)): int(mask[r, c]) for r, c in np.argwhere(mask != IGNORE_INDEX)}
    return labels, report


# Reading


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_gives_its_classes_and_its_own_feature_ids(tmp_path, suffix):
    first = 1 if suffix == "gpkg" else 0  # GeoPackage counts from 1
    shapes = [shapely.Point(LEFT + i, TOP) for i in range(3)]
    path = write_features(tmp_path / f"a.{suffix}", shapes, ["forest", "Water", "road"])
    found = read(path)
    assert found.fids.tolist() == [first, first + 1, first + 2]
    assert found.class_ids.tolist() == [2, 0, 1]
    assert shapely.get_coordinates(found.parts).tolist() == [[LEFT + i, TOP] for i in range(3)]
    assert (found.read, found.ignored, found.without_geometry) == (3, 0, ())


def test_multi_geometries_and_collections_are_taken_apart_and_keep_their_feature(tmp_path):
    shapes = [
        shapely.MultiPoint([(1, 1), (2, 2)]),
        shapely.LineString([(0, 0), (1, 0)]),
        shapely.GeometryCollection(
            [shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 6)]), POINT]
        ),
    ]
    found = read(write_features(tmp_path / "a.gpkg", shapes, [0, 1, 2]))
    kinds = [shape.geom_type for shape in found.parts]
    assert kinds == ["Point", "Point", "LineString", "Polygon", "Polygon", "Point"]
    assert found.owners.tolist() == [0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize(
    "values",
    [
        ["WATER", " road", "Forest", "water"],
        [0, 1, 2, 0],
        [0.0, 1.0, 2.0, 0.0],
        ["0", "1.0", "02", "Water "],
    ],
)
def test_a_class_is_named_in_any_case_or_given_as_its_id_in_any_form(tmp_path, values):
    assert read(write_features(tmp_path / "a.gpkg", [POINT] * 4, values)).class_ids.tolist() == [
        0,
        1,
        2,
        0,
    ]


@pytest.mark.parametrize("value", [3, -1, 1.5, "1.5", "watr", "255", None, "1e0", float("nan")])
def test_a_value_that_is_not_a_class_is_refused_with_feature_ids(tmp_path, value):
    values = [0, value, value] if not isinstance(value, str) else ["0", value, value]
    message = refusal(write_features(tmp_path / "a.gpkg", [POINT] * 3, values))
    shown = "" if value is None or value != value else str(value)
    assert f"{shown!r} (features 2, 3)" in message.replace(".0'", "'")


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_equal_however_their_letters_are_composed(tmp_path, forms):
    own, other = (unicodedata.normalize(form, "Gewässer") for form in forms)
    assert own != other
    classes = ClassTable((own, "road"), ((0, 0, 0), (255, 255, 255)))
    path = tmp_path / "a.gpkg"
    table = geopandas.GeoDataFrame(
        {other: [other, other.upper()], "orthophoto": [other, None]},
        geometry=[POINT] * 2,
        crs=CRS.from_epsg(2180),
    )
    pyogrio.write_dataframe(table, path, layer=other)
    found = read(path, classes, column=own, orthophotos=[own], layer=own)
    assert found.class_ids.tolist() == [0, 0]
    assert found.orthophotos.tolist() == [own, ""]
    coded = read(path, classes, column=own, codes={own: own}, ignore=())
    assert coded.class_ids.tolist() == [0, 0]


def test_a_layer_without_the_column_is_told_from_those_to_read(tmp_path):
    path = tmp_path / "a.gpkg"
    for layer, column in (("clicks", "kind"), ("roads", "name")):
        table = geopandas.GeoDataFrame({column: ["Water"]}, geometry=[POINT], crs=POLAND)
        pyogrio.write_dataframe(table, path, layer=layer)
    said = refusal(path)
    assert "layer 'roads', has no column 'kind', it has name" in said
    assert said.endswith("name those that do, of clicks: annotate.vectors.layer")
    assert read(path, layer="clicks").class_ids.tolist() == [0]


def test_a_misspelt_class_gets_a_suggestion(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [POINT], ["watr"])
    assert "did you mean 'water'? Correct the values" in refusal(path)
    path = write_features(tmp_path / "b.gpkg", [POINT], ["xyz"])
    assert "; known: " in refusal(path)
    assert re.search(r"[^?.]\. Correct the values", refusal(path))


def test_values_to_ignore_are_left_out_and_counted_whatever_their_geometry(tmp_path):
    bow = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    path = write_features(tmp_path / "a.gpkg", [POINT, bow, POINT, POINT], ["1", "255", None, "?"])
    found = read(path, ignore=[255, "", "?"])
    assert (found.fids.tolist(), found.read, found.ignored) == ([1], 4, 3)


@pytest.mark.filterwarnings("error")
def test_a_geojson_may_mix_names_and_numbers_of_classes(tmp_path):
    features = [
        {
            "type": "Feature",
            "properties": {"kind": kind},
            "geometry": shapely.geometry.mapping(shapely.Point(19, 52)),
        }
        for kind in ("road", 2, "0", 1.0)
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert read(path).class_ids.tolist() == [1, 2, 0, 1]


def test_with_codes_a_number_is_not_an_id(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [POINT] * 2, ["1", "2"])
    codes = {1: "forest", "2": "water"}
    assert read(path, codes=codes).class_ids.tolist() == [2, 0]
    other = write_features(tmp_path / "b.gpkg", [POINT] * 2, ["1", "0"])
    assert "'0' (feature 2); known: 1, 2" in refusal(other, codes=codes)


def test_codes_that_name_an_unknown_class_are_refused(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [POINT], [1])
    with pytest.raises(ValueError, match="`codes` names lake, which is not a class: known are"):
        read(path, codes={1: "lake"})


@pytest.mark.parametrize("names", [("a", "0"), ("Land", "land")])
def test_a_class_table_in_which_a_value_has_two_meanings_is_refused(tmp_path, names):
    path = write_features(tmp_path / "a.gpkg", [POINT], ["a"])
    with pytest.raises(ValueError, match=r"may mean class \d or \d"):
        read(path, ClassTable(names, ((1, 1, 1), (2, 2, 2))))


def test_a_missing_column_is_refused_with_those_there_and_a_near_one(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [POINT], [0])
    message = refusal(path, column="Kinds")
    assert "no column 'Kinds', it has kind; did you mean 'kind'?" in message


def test_a_shapefile_without_its_table_is_refused_with_the_likely_cause(tmp_path):
    path = write_features(tmp_path / "a.shp", [POINT], [0])
    (tmp_path / "a.dbf").unlink()
    assert "it has none (is the .dbf beside the .shp?)" in refusal(path)


def test_all_layers_are_read_each_in_its_crs_and_ids_name_the_layer(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [None, POINT], [0, 0], layer="points")
    write_features(path, [], [], layer="unused", geometry_type="LineString")
    lonlat = shapely.transform(
        in_pixels(shapely.box(20, 20, 22, 23)),
        pyproj.Transformer.from_crs(POLAND, 4326, always_xy=True).transform,
        interleaved=False,
    )
    write_features(path, [lonlat, POINT], [2, 9], crs="EPSG:4326", layer="areas")
    found = read(path, ignore=[9])
    assert found.fids.tolist() == ["points:2", "areas:1"]
    assert (found.read, found.ignored, found.without_geometry) == (4, 1, ("points:1",))
    mask, report = burn(found, lay_orthophoto())
    wanted = np.full((40, 50), IGNORE_INDEX, np.uint8)
    wanted[4, 4] = 0
    wanted[20:23, 20:22] = 2
    np.testing.assert_array_equal(mask, wanted)
    assert report.summary()["without_geometry"] == {"features": 1, "fids": ["points:1"]}


def test_of_several_layers_some_may_be_chosen(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [POINT], [0], layer="north")
    write_features(path, [POINT], [2], layer="south")
    pyogrio.write_dataframe(
        geopandas.GeoDataFrame({"name": ["mine"]}, geometry=[POINT], crs=POLAND), path, layer="area"
    )
    assert "layer 'area', has no column 'kind', it has name" in refusal(path)
    assert read(path, layer=("south", "north")).class_ids.tolist() == [2, 0]
    assert (
        "no layer 'Sout' of geometries, it has north, south, area; did you mean 'south'?"
        in refusal(path, layer="Sout")
    )
    assert read(path, layer="south").class_ids.tolist() == [2]


def test_a_table_without_geometries_is_no_layer_to_choose(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [POINT], [0])
    pyogrio.write_dataframe(geopandas.pd.DataFrame({"kind": [1]}), path, layer="notes")
    assert read(path).class_ids.tolist() == [0]
    assert "no layer 'notes' of geometries" in refusal(path, layer="notes")


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("srs_id", [None, 0, -1])
def test_a_file_without_a_crs_is_refused(tmp_path, srs_id):
    path = write_features(tmp_path / "a.gpkg", [POINT], [0], crs=None)
    if srs_id is not None:  # GeoPackage's own words for "undefined"
        with closing(sqlite3.connect(path)) as database, database:
            for table in ("gpkg_contents", "gpkg_geometry_columns"):
                database.execute(f"UPDATE {table} SET srs_id = ?", [srs_id])
    assert "has no CRS, so it cannot be placed: set it in QGIS" in refusal(path)


def test_metres_declared_as_degrees_are_refused(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(
        '{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"kind":0},'
        '"geometry":{"type":"Point","coordinates":[500001,599999]}}]}'
    )
    assert "is in degrees (EPSG:4326), but its x ranges from 500001" in refusal(path)


def test_features_without_a_geometry_are_left_out_and_named(tmp_path):
    with np.errstate(invalid="ignore"):  # shapely computes with the NaN
        line = shapely.LineString([(0, 0), (1, np.nan)])
    shapes = [None, POINT, shapely.Polygon(), line]
    found = read(write_features(tmp_path / "a.gpkg", shapes, [0] * 4))
    assert (found.fids.tolist(), found.without_geometry) == ([2], (1, 3, 4))
    assert "3 have no geometry (fid 1, 3, 4)" in PlacementReport(found).describe()


def test_a_file_without_annotations_is_refused(tmp_path):
    path = write_features(tmp_path / "a.gpkg", [None, POINT], [0, 9])
    assert "of 2 features 1 have a value to ignore, and 1 no geometry" in refusal(path, ignore=[9])
    empty = write_features(tmp_path / "b.gpkg", [], [], geometry_type="Point")
    assert "has no features" in refusal(empty)


def test_invalid_polygons_are_refused_by_id_and_not_repaired(tmp_path):
    bow = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    path = write_features(tmp_path / "a.gpkg", [POINT, bow], [0, 1])
    assert "features 2 (Self-intersection[1 1])" in refusal(path)


def add_view(path, query):
    """Add a view to a GeoPackage as QGIS knows layers of queries."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE VIEW shown AS {query}")
        for table in ("gpkg_contents", "gpkg_geometry_columns"):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            renamed = {"table_name": "'shown'", "identifier": "'shown'"}
            values = ", ".join(renamed.get(column, column) for column in columns)
            database.execute(f"INSERT INTO {table} SELECT {values} FROM {table} LIMIT 1")


def test_a_view_without_end_is_refused_and_others_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "VIEW_S", 0.2)
    path = write_features(tmp_path / "a.gpkg", [POINT], ["road"], layer="a")
    add_view(path, "SELECT fid, geom, kind FROM a")
    assert len(read(path, layer=("shown",)).fids) == 1
    path = write_features(tmp_path / "b.gpkg", [POINT], ["road"], layer="a")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    add_view(path, f"SELECT i AS fid, geom, kind FROM a, ({endless})")
    assert "the view 'shown' has not ended after 0.2 s: export it" in refusal(path)


GERMAN = ClassTable(("Gewässer", "Straße", "Wald"), CLASSES.colours)


@pytest.mark.parametrize(
    ("encoding", "declared", "said"),
    [
        ("UTF-8", None, "'gewã¤sser' (feature 0); known: gewässer, "),
        ("ISO-8859-1", "UTF-8", "has texts that are not utf-8 (invalid continuation byte)"),
    ],
)
def test_texts_in_another_encoding_than_declared_are_told_so(tmp_path, encoding, declared, said):
    """QGIS guesses, GDAL takes ISO-8859-1 where nothing is declared (QGIS#48138)."""
    path = write_features(tmp_path / "a.shp", [POINT], ["Gewässer"], encoding=encoding)
    assert read(path, GERMAN).class_ids.tolist() == [0]
    declares = tmp_path / "a.cpg"
    if declared:
        declares.write_text(declared)
    else:
        declares.unlink()
    message = refusal(path, GERMAN)
    assert said in message
    assert "write the encoding of a Shapefile's .dbf, such as UTF-8 or ISO-8859-1, into" in message


@pytest.mark.parametrize(
    "content",
    [
        {"images": [], "annotations": [{"segmentation": [[0, 0, 1, 1]]}], "categories": []},
        [{"id": 1, "annotations": [{"result": []}]}],
        {"version": "5.0", "shapes": [{"label": "road", "points": [[1, 2]]}]},
        {"type": "Topology", "objects": {}, "arcs": []},
    ],
)
def test_json_of_labelling_programs_is_called_so(tmp_path, content):
    """It was "copy or export it again" (label-studio#3622)."""
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(content))
    assert "a.geojson is JSON, but no GeoJSON: wanted a GeoPackage" in refusal(path)


def test_a_column_name_that_a_shapefile_shortened_is_suggested(tmp_path):
    """To ten letters (QGIS#35823)."""
    table = geopandas.GeoDataFrame({"land_cover": ["road"]}, geometry=[POINT], crs=POLAND)
    pyogrio.write_dataframe(table, tmp_path / "a.shp", driver="ESRI Shapefile")
    message = refusal(tmp_path / "a.shp", column="land_cover_class")
    assert "has no column 'land_cover_class', it has land_cover; did you mean 'land_cov" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(tmp_path, suffix, fraction):
    shapes = [shapely.Point(LEFT + i, TOP) for i in range(3000)]
    path = write_features(tmp_path / f"a.{suffix}", shapes, [i % 3 for i in range(3000)])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    assert "opy" in refusal(path)  # copy it again


@pytest.mark.parametrize("suffix", ["dbf", "shx"])
def test_a_shapefile_with_a_truncated_side_file_is_refused(tmp_path, suffix):
    path = write_features(tmp_path / "a.shp", [POINT] * 100, [0] * 100)
    side = path.with_suffix(f".{suffix}")
    side.write_bytes(side.read_bytes()[:200])
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.gpkg", b"", "is empty (0 bytes)"),
        ("a.gpkg", b"hello", "is not a file of annotations (it begins with b'hello')"),
        ("a.vrt", b"<OGRVRTDataSource/>", "is not a file of annotations"),
        (
            "a.json",
            b'{"type": "gdal_streamed_alg", "command_line": "x"}',
            "not a file of annotations",
        ),
        ("a.zip", b"PK\3\4", "unpacked Shapefile"),
        ("a.json", b'{"hello": 1}', "is JSON, but no GeoJSON"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    assert said in refusal(tmp_path / name)


def write_named(path, names, shapes=None):
    shapes = shapes or [POINT] * len(names)
    table = geopandas.GeoDataFrame(
        {"kind": [0] * len(names), "orthophoto": names}, geometry=shapes, crs=POLAND
    )
    pyogrio.write_dataframe(table, path)
    return path


def test_a_feature_of_one_orthophoto_labels_no_other_that_lies_there_too(tmp_path):
    shapes = [in_pixels(shapely.Point(col, 5)) for col in (1, 2, 3)]
    path = write_named(tmp_path / "a.gpkg", ["a", "b", None], shapes)
    annotations = read(path, orthophotos=["a", "b"])
    for name, wanted in (("a", [1, 3]), ("b", [2, 3]), ("c", [3])):
        mask, _ = burn(annotations, lay_orthophoto(), orthophoto=name)
        assert np.flatnonzero(mask[5] == 0).tolist() == wanted


def test_a_feature_of_an_orthophoto_that_is_not_there_is_refused(tmp_path):
    path = write_named(tmp_path / "a.gpkg", ["a", "north", "north", ""])
    assert (
        "has names that are not orthophotos of the dataset: north (features 2, 3); known: a, b"
        in (refusal(path, orthophotos=["b", "a"]))
    )


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"b\.gpkg does not exist"):
        read(tmp_path / "b.gpkg")


# Placing: which pixels


@pytest.mark.parametrize(
    ("crs", "left", "top"),
    [
        (POLAND, LEFT, TOP),
        ("EPSG:2953", 2_332_309, 7_599_479),
        ("EPSG:31467", 3_500_000, 5_600_000),
    ],
)
def test_longitude_and_latitude_map_to_the_same_pixel_as_in_gdal(crs, left, top):
    # The axes of EPSG:2953 and EPSG:31467 are north, east by definition.
    place = from_origin(left, top, 0.5, 0.5)
    lon, lat = rasterio.warp.transform(crs, "EPSG:4326", *[[v] for v in place @ (30.5, 7.5)])
    grid = lay_orthophoto(crs=crs, place=place)
    mask, _ = burn(make([shapely.Point(lon[0], lat[0])], [2], "EPSG:4326"), grid)
    assert np.argwhere(mask != IGNORE_INDEX).tolist() == [[7, 30]]
    assert mask[7, 30] == 2


@pytest.mark.parametrize("turns", [-1, 0, 1])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize("side", [-1, 1])
def test_longitudes_count_modulo_360(crs, side, turns):
    """An orthophoto across 180°, and points with longitudes of any convention."""
    step = 0.001 if crs == "EPSG:4326" else 100.0
    turn = 360.0 if crs == "EPSG:4326" else 2 * np.pi * 6_378_137
    grid = lay_orthophoto(crs=crs, place=from_origin(side * turn / 2 - 25 * step, 0, step, step))
    cols, rows = np.arange(2, 50, 3), np.arange(2, 34, 2)
    x, y = grid.transform @ (cols + 0.5, rows + 0.5)
    x = (x + turn / 2) % turn - turn / 2 + turns * turn
    found, _ = burn(make(shapely.points(x, y), [1] * len(x), crs=crs), grid)
    wanted = np.full((40, 50), 255, np.uint8)
    wanted[rows, cols] = 1
    assert np.array_equal(found, wanted)
    # A polygon across 180° has both ends of the range of longitudes.
    corners = np.array([(5, 3), (45, 3), (45, 30), (5, 30)])
    x, y = grid.transform @ corners.T
    torn = shapely.Polygon(np.stack([(x + turn / 2) % turn - turn / 2, y], axis=1))
    wanted = np.full((40, 50), 255, np.uint8)
    wanted[3:30, 5:45] = 2
    found, _ = burn(make([torn], [2], crs=crs), grid)
    assert np.array_equal(found, wanted)


def test_far_from_180_degrees_a_wide_polygon_stays_as_it_is():
    grid = lay_orthophoto(crs="EPSG:4326", place=from_origin(20, 50, 0.001, 0.001))
    wide = shapely.box(-175, -80, 175, 80)
    found, _ = burn(make([wide], [2], crs="EPSG:4326"), grid)
    assert (found == 2).all()


def test_a_turned_orthophoto_gets_its_points_where_its_transform_says():
    place = Affine.translation(LEFT, TOP) @ Affine.rotation(30) @ Affine.scale(0.5, -0.25)
    points = [in_pixels(shapely.Point(c + 0.5, r + 0.5), place) for r, c in [(3, 4), (39, 49)]]
    mask, _ = burn(make(points, [0, 1]), lay_orthophoto(place=place))
    assert np.argwhere(mask != IGNORE_INDEX).tolist() == [[3, 4], [39, 49]]


def test_a_point_on_an_edge_belongs_to_the_pixel_below_and_right():
    corners = [(0, 0), (7, 3), (49, 39), (50, 5), (5, 40)]
    labels, report = burn_pixels([shapely.Point(corner) for corner in corners], [0] * 5)
    assert set(labels) == {(0, 0), (3, 7), (39, 49)}
    assert report.summary()["outside"] == {"features": 2, "fids": [13, 14]}


def test_edges_are_edges_also_where_a_pixel_is_no_binary_fraction():
    place = from_origin(2_332_309.4, 7_599_479.2, 0.1, 0.1)
    points = [shapely.Point(2_332_309.4 + k * 0.1, 7_599_479.2 - k * 0.1) for k in range(40)]
    mask, _ = burn(make(points, [0] * 40), lay_orthophoto(place=place))
    assert np.argwhere(mask != IGNORE_INDEX).tolist() == [[k, k] for k in range(40)]


def pixels_where(test, shape, grid):
    """Test every pixel of a grid with shapely: its centre or its square against a shape."""
    rows, cols = np.mgrid[: grid.height, : grid.width]
    squares = shapely.box(cols, rows, cols + 1, rows + 1)
    if test == "centre":
        return shapely.contains_xy(shape, cols + 0.5, rows + 0.5)
    return shapely.intersects(shape, squares)


def star(vertices, seed, centre=(25, 20), least=3, most=24):
    """A simple polygon of random corners around a centre."""
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, vertices))
    radii = generator.uniform(least, most, vertices)
    return shapely.Polygon(
        np.c_[centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)]
    )


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_polygons_and_lines_label_the_same_pixels_as_shapely(seed):
    grid, polygon = lay_orthophoto(), star(9, seed)
    line = polygon.exterior
    for shape, all_touched, test in [
        (polygon, False, "centre"),
        (polygon, True, "square"),
        (shapely.LineString(line), False, "square"),
    ]:
        mask, _ = burn(make([in_pixels(shape)], [1]), grid, all_touched=all_touched)
        np.testing.assert_array_equal(mask == 1, pixels_where(test, shape, grid))


def test_a_polygon_on_the_pixels_edges_covers_those_pixels_alone_either_way():
    for all_touched in (False, True):
        labels, _ = burn_pixels([shapely.box(3, 5, 6, 7)], [1], all_touched=all_touched)
        assert set(labels) == {(r, c) for r in (5, 6) for c in (3, 4, 5)}


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(5, 40), st.booleans())
def test_a_mask_does_not_depend_on_how_it_is_cut_into_windows(seed, tile_px, all_touched):
    generator = np.random.default_rng(seed)
    points = [shapely.Point(p) for p in generator.uniform(-5, 55, (30, 2))]
    shapes = [
        *points,
        star(8, seed),
        star(2500, seed + 1, (10, 10)),  # large enough to be clipped
        star(2500, seed + 2).exterior,
        shapely.LineString(generator.uniform(-5, 55, (5, 2))),
    ]
    shapes = [shapely.LineString(s) if s.geom_type == "LinearRing" else s for s in shapes]
    classes = generator.integers(0, 3, len(shapes))
    annotations = make([in_pixels(shape) for shape in shapes], classes)
    whole, about_whole = burn(annotations, lay_orthophoto(), None, all_touched)
    tiled, about_tiled = burn(annotations, lay_orthophoto(), tile_px, all_touched)
    np.testing.assert_array_equal(tiled, whole)
    assert about_tiled.summary() == about_whole.summary()


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(4, 60), st.booleans())
def test_a_drawing_does_not_depend_on_vertices_left_out_far_from_its_window(
    seed, vertices, all_touched
):
    generator = np.random.default_rng(seed)
    outline = star(vertices, seed, least=10)
    holes = [star(5, seed + n, generator.uniform(5, 45, 2), 1, 6).exterior for n in range(4)]
    shapes = [
        outline,
        shapely.Polygon(outline.exterior, holes),
        star(vertices, seed + 9, (8, 8), least=0.1).exterior,
        shapely.LineString(generator.uniform(-20, 70, (vertices, 2))),
        # All but level, as edges that are cut are: GDAL draws them in one row.
        shapely.LineString(generator.uniform((-20, 19.99), (70, 20.01), (vertices, 2))),
    ]
    shapes = [shapely.LineString(s) if s.geom_type == "LinearRing" else s for s in shapes]
    for shape in shapes:
        annotations = make([in_pixels(shape)], [1])
        masks = []
        for most in (1, 10_000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(placing, "MANY_VERTICES", most)
                masks.append(burn(annotations, lay_orthophoto(), 7, all_touched)[0])
        np.testing.assert_array_equal(*masks)


def test_a_nearly_horizontal_road_is_drawn_alike_in_any_window():
    # It crosses into row 20 at column 46; cut at a window it was taken for level from there on.
    road = [(44.347479, 19.786109), (33.191961, 19.985064), (48.40949, 20.002038)]
    far = shapely.LineString([(60 + n % 2, n % 40) for n in range(2000)]).coords
    annotations = make([in_pixels(shapely.LineString([*far, *road]))], [1])
    whole, _ = burn(annotations, lay_orthophoto(), None, False)
    tiled, _ = burn(annotations, lay_orthophoto(), 5, False)
    np.testing.assert_array_equal(tiled, whole)
    assert (whole[19, 46:50] == [1, 255, 255, 255]).all()


def test_a_window_without_features_is_unlabelled_and_rasterises_nothing(monkeypatch):
    annotations = make([in_pixels(shapely.box(2, 2, 5, 5))], [1])
    placement = place_annotations(
        annotations,
        lay_orthophoto(),
        PlacementReport(annotations),
        orthophoto="a",
        all_touched=True,
    )
    monkeypatch.setattr(placing, "rasterize_shapes", None)
    assert (placement.burn(Window(20, 0, 20, 20)) == IGNORE_INDEX).all()
    with pytest.raises(TypeError):
        placement.burn(Window(0, 0, 20, 20))


# Placing: what is reported


def test_a_pixel_of_two_classes_stays_unlabelled_and_both_features_are_named():
    shapes = [shapely.box(0, 0, 2, 1), shapely.Point(1.5, 0.5), shapely.Point(7.5, 7.5)]
    labels, report = burn_pixels(shapes, [0, 1, 1])
    assert labels == {(0, 0): 0, (7, 7): 1}
    summary = report.summary()
    assert summary["conflict_pixels"] == 1
    assert summary["conflicting"] == {"features": 2, "fids": [10, 11]}
    assert summary["placed"] == 2  # the polygon keeps a pixel, the first point none
    assert "2 meet another class (1 pixels left unlabelled) (fid 10, 11)" in report.describe()


def test_three_classes_in_a_pixel_are_one_conflict():
    labels, report = burn_pixels([shapely.Point(1.5, 1.5)] * 3, [0, 1, 2])
    assert labels == {}
    assert report.conflict_pixels == 1
    assert report.conflicting.all()


def test_the_same_class_twice_in_a_pixel_is_no_conflict():
    shapes = [shapely.box(0, 0, 2, 2), shapely.box(0, 0, 2, 2), shapely.Point(0.5, 0.5)]
    labels, report = burn_pixels(shapes, [2, 2, 2])
    assert labels == {(r, c): 2 for r in (0, 1) for c in (0, 1)}
    assert report.placed.all()
    assert not report.conflicting.any()


@pytest.mark.parametrize("tile_px", [4, 50])
def test_features_covered_by_others_of_their_class_are_reported(tile_px):
    under, over = shapely.box(2, 2, 6, 6), shapely.box(0, 0, 8, 8)
    beside, other = shapely.box(0, 0, 1, 1), shapely.box(5, 5, 7, 7)
    _, report = burn_pixels([under, beside, over, other], [0, 0, 0, 1], tile_px=tile_px)
    assert report.placed.tolist() == [True, True, True, False]
    assert report.conflicting.tolist() == [True, False, True, True]
    assert report.conflict_pixels == 4


def test_reasons_for_features_without_labels_are_distinguished():
    annotations = make(
        [
            in_pixels(shape)
            for shape in (
                shapely.box(1.6, 1.6, 1.9, 9.9),  # between the centres of two columns
                shapely.box(30, 30, 35, 35),  # on no tile
                shapely.box(60, 0, 70, 10),  # on no orthophoto
                shapely.box(50, 0, 55, 10),  # begins where the orthophoto ends
                shapely.box(20, 0, 25, 10),  # begins where the tile ends
                shapely.box(3, 3, 5, 5),
                shapely.box(-5, 0, 0, 10),  # ends where the orthophoto begins
            )
        ],
        [0] * 7,
    )
    report = PlacementReport(annotations)
    place_annotations(
        annotations, lay_orthophoto(), report, orthophoto="a", all_touched=False
    ).burn(Window(0, 0, 20, 20))
    summary = report.summary()
    assert summary["without_pixel"]["fids"] == [10]
    assert summary["not_on_tiles"]["fids"] == [11, 14]
    assert summary["outside"]["fids"] == [12, 13, 16]
    assert summary["placed"] == 1
    assert json.loads(json.dumps(summary)) == summary
    assert report.describe() == (
        "1 of 7 features label pixels; 3 lie outside every orthophoto (fid 12, 13, 16); 2 lie on "
        "no tile that is annotated (fid 11, 14); 1 cover no pixel there (fid 10)"
    )


def test_a_feature_on_two_orthophotos_is_inside_and_counted_once():
    annotations = make(
        [in_pixels(shapely.box(40, 0, 60, 10)), in_pixels(shapely.Point(60.5, 1))], [0, 1]
    )
    report = PlacementReport(annotations)
    west, east = lay_orthophoto(), lay_orthophoto(place=from_origin(LEFT + 12, TOP, 0.25, 0.25))
    for grid in (west, east):
        place_annotations(annotations, grid, report, orthophoto="a", all_touched=False).burn(
            Window(0, 0, 50, 40)
        )
    assert report.placed.tolist() == [True, True]
    assert report.summary()["placed"] == 2
    report.check()


def test_a_line_along_the_edge_between_two_tiles_is_not_lost():
    labels, _ = burn_pixels([shapely.LineString([(20, 2.5), (20, 4.5)])], [1], tile_px=20)
    assert set(labels) == {(2, 20), (3, 20), (4, 20)}


@pytest.mark.parametrize("missing", ["CRS", "transform"])
def test_an_orthophoto_without_georeference_is_refused(missing):
    grid = lay_orthophoto(crs=None) if missing == "CRS" else lay_orthophoto(place=Affine.identity())
    with pytest.raises(ValueError, match=rf"ortho\.tif has no {missing}, so the features of mine"):
        burn(make([POINT], [0]), grid)


def test_a_crs_without_a_transformation_to_that_of_the_orthophoto_is_refused():
    with pytest.raises(
        ValueError, match=r"there is no transformation from the CRS of mine\.gpkg \(plan\) to"
    ):
        burn(make([POINT], [0], 'LOCAL_CS["plan",UNIT["metre",1]]'), lay_orthophoto())


def test_a_transformation_that_lacks_a_grid_is_warned_of(monkeypatch, caplog):
    annotations = make([shapely.Point(19, 52)], [0], "EPSG:4326")
    with caplog.at_level(logging.WARNING):
        burn(annotations, lay_orthophoto())
        assert not caplog.records
        monkeypatch.setattr(
            features, "TransformerGroup", lambda *_, **__: SimpleNamespace(best_available=False)
        )
        burn(make([shapely.Point(19, 52)], [0], "EPSG:4326"), lay_orthophoto())
    assert (
        "mine.gpkg (EPSG:4326) is not placed on ortho.tif (EPSG:2180) by the best transformation"
        in (caplog.text)
    )


def test_swapped_coordinates_are_an_error_with_both_extents():
    swapped = make([shapely.Point(52, 19)], [0], "EPSG:4326")  # the orthophoto: 19° E, 53° N
    _, report = burn(swapped, lay_orthophoto())
    with pytest.raises(
        ValueError, match=r"none of the 1 features of mine\.gpkg lies on an ortho"
    ) as e:
        report.check()
    assert "it spans x 500000 to 500012.5, y 599990 to 600000" in str(e.value)
    assert "and the order of x and y" in str(e.value)


def test_a_part_that_the_orthophotos_crs_cannot_express_is_outside():
    # The orthophoto begins at 19° E, 53.265° N; its projection has no place for 109° E, 0° N.
    around = [(18.9, 53.2), (19.1, 53.2), (19.1, 53.3)]
    shapes = [shapely.Polygon([*around, corner]) for corner in ((18.9, 53.3), (109, 0))]
    mask, report = burn(
        make([*shapes, shapely.Point(109, 0)], [0, 1, 1], "EPSG:4326"), lay_orthophoto()
    )
    assert report.inside.tolist() == [True, False, False]
    assert (mask == 0).all()


def test_annotations_with_only_conflicts_are_refused():
    _, report = burn_pixels([shapely.Point(1.5, 1.5)] * 2, [0, 1])
    with pytest.raises(ValueError, match=r"no feature of mine\.gpkg labels a pixel: 0 of 2"):
        report.check()


# Writing

CUSTOM = pyproj.CRS(POLAND).to_wkt().replace("ETRF2000-PL / CS92", "a local name")


def write_clicks(folder, split, name, mask, size_px, crs=POLAND, left=LEFT):
    """Write the clicks of one orthophoto below folder/clicks; give its tiles."""
    height, width = mask.shape
    like = lay_orthophoto(height, width, crs, from_origin(left, TOP, 0.1, 0.1))
    windows = lay_grid(height, width, size_px)
    path = raster_path(folder / "clicks", split, name)
    with write_mask(path, like=like, block_px=size_px, classes=CLASSES) as out:
        for window in windows:
            out.write(np.ascontiguousarray(mask[window.toslices()])[None], window)
    return [
        Tile(f"{name}_{k}", name, name, split, w.row_off, w.col_off, w.height, w.width, ())
        for k, w in enumerate(windows)
    ]


def scatter(height, width, count, seed):
    generator = np.random.default_rng(seed)
    mask = np.full(height * width, IGNORE_INDEX, np.uint8)
    mask[generator.choice(mask.size, count, replace=False)] = generator.integers(0, 3, count)
    return mask.reshape(height, width)


def write_points(path, tiles, clicks, classes, *, limit):
    """Write a GeoPackage of orthophotos that have a CRS, or none while others have one."""
    return write_points_as(path, PointLabels(tiles, clicks, classes, limit), IMAGES, "geopackage")


@pytest.fixture
def run(tmp_path):
    """Clicks of three orthophotos with edge tiles; the last is in another CRS."""
    places = {
        "a": ("train", POLAND, LEFT),
        "b": ("val", POLAND, LEFT + 300.7),
        "c": ("train", "EPSG:2953", 2_332_309.4475),
    }
    tiles, masks = [], {}
    for seed, (name, (split, crs, left)) in enumerate(places.items()):
        masks[split, name] = scatter(100 + seed, 130, 400, seed)
        tiles += write_clicks(tmp_path, split, name, masks[split, name], 64, crs, left)
    return SimpleNamespace(folder=tmp_path / "clicks", tiles=tiles, masks=masks)


def test_clicks_written_and_read_back_are_the_same_masks(tmp_path, run):
    path = tmp_path / "out.gpkg"
    counts = write_points(path, run.tiles, run.folder, CLASSES, limit=10**6)
    assert counts == {"points_1": 800, "points_2": 400}
    for column in ("class", "class_id"):
        annotations = read(path, column=column, orthophotos="abc")
        for (split, name), mask in run.masks.items():
            grid = RasterReader(raster_path(run.folder, split, name)).info()
            found, report = burn(annotations, grid, 64, orthophoto=name)
            np.testing.assert_array_equal(found, mask)
            assert not report.conflicting.any()


def test_clicks_are_placed_on_their_orthophoto_despite_overlaps(tmp_path):
    masks = {name: scatter(64, 64, 400, seed) for seed, name in enumerate("ab")}
    tiles = [
        tile
        for name, left in (("a", LEFT), ("b", LEFT + 3.2))
        for tile in write_clicks(tmp_path, "train", name, masks[name], 64, left=left)
    ]
    path = tmp_path / "out.gpkg"
    write_points(path, tiles, tmp_path / "clicks", CLASSES, limit=10**6)
    annotations = read(path, column="class")
    for name, mask in masks.items():
        grid = RasterReader(raster_path(tmp_path / "clicks", "train", name)).info()
        np.testing.assert_array_equal(burn(annotations, grid, orthophoto=name)[0], mask)


def test_a_point_has_class_split_orthophoto_and_tile(tmp_path, run):
    path = tmp_path / "out.gpkg"
    write_points(path, run.tiles, run.folder, CLASSES, limit=10**6)
    table = pyogrio.read_dataframe(path, layer="points_1")
    assert list(table.columns) == [
        "class",
        "class_id",
        "split",
        "orthophoto",
        "tile",
        "geometry",
    ]
    assert [CLASSES.names.index(name) for name in table["class"]] == list(table.class_id)
    tiles = {tile.id: tile for tile in run.tiles}
    lefts = {"a": LEFT, "b": LEFT + 300.7}
    for row in table.itertuples():
        tile = tiles[row.tile]
        assert (tile.split, tile.orthophoto) == (row.split, row.orthophoto)
        col = (row.geometry.x - lefts[tile.orthophoto]) / 0.1 - 0.5
        assert 0 <= round(col) - tile.col_off < tile.width
        assert abs(col - round(col)) < 1e-4


def test_orthophotos_of_one_crs_are_in_one_layer_and_a_crs_without_code_is_kept(tmp_path):
    mask = scatter(64, 64, 50, 0)
    tiles = write_clicks(tmp_path, "train", "a", mask, 64, CUSTOM)
    tiles += write_clicks(tmp_path, "val", "b", mask, 64, CUSTOM, LEFT + 100)
    path = tmp_path / "out.gpkg"
    assert write_points(path, tiles, tmp_path / "clicks", CLASSES, limit=100) == {"points": 100}
    grid = RasterReader(raster_path(tmp_path / "clicks", "val", "b")).info()
    found, _ = burn(read(path, column="class"), grid, orthophoto="b")
    np.testing.assert_array_equal(found, mask)


def test_the_same_clicks_are_the_same_bytes(tmp_path, run):
    for name in ("one.gpkg", "two.gpkg"):
        write_points(tmp_path / name, run.tiles, run.folder, CLASSES, limit=10**6)
    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes()


def test_every_layer_has_the_class_colours_where_qgis_looks_for_its_style(tmp_path, run):
    path = tmp_path / "out.gpkg"
    write_points(path, run.tiles, run.folder, CLASSES, limit=10**6)
    table = pyogrio.read_dataframe(path, layer="layer_styles")
    assert list(table.f_table_name) == ["points_1", "points_2"]
    assert list(table.f_geometry_column) == ["geom", "geom"]
    assert list(table.useAsDefault) == [True, True]
    assert set(table.styleQML) == {path.with_suffix(".qml").read_text()}
    renderer = ElementTree.fromstring(table.styleQML[0]).find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "class")
    colours = {
        symbol.get("name"): symbol.find("layer/Option/Option[@name='color']").get("value")
        for symbol in renderer.find("symbols")
    }
    shown = {c.get("value"): colours[c.get("symbol")] for c in renderer.find("categories")}
    assert shown == {"Water": "0,0,255,255", "road": "255,255,0,255", "forest": "0,128,0,255"}


def test_an_orthophoto_without_a_crs_is_refused_and_nothing_is_written(tmp_path):
    tiles = write_clicks(tmp_path, "train", "a", scatter(64, 64, 5, 0), 64, None)
    path = tmp_path / "out.gpkg"
    with pytest.raises(ValueError, match="orthophoto 'a' has no CRS"):
        write_points(path, tiles, tmp_path / "clicks", CLASSES, limit=100)
    assert [file.name for file in tmp_path.iterdir()] == ["clicks"]


def test_the_limit_is_the_maximum_number_of_points(tmp_path):
    tiles = write_clicks(tmp_path, "train", "a", scatter(64, 64, 5, 0), 32)
    path = tmp_path / "out.gpkg"
    with pytest.raises(ValueError, match="more than 4 clicks, with which a GIS is slow"):
        write_points(path, tiles, tmp_path / "clicks", CLASSES, limit=4)
    write_points(path, tiles, tmp_path / "clicks", CLASSES, limit=5)


def test_no_click_another_class_table_and_another_format_are_refused(tmp_path):
    tiles = write_clicks(tmp_path, "train", "a", scatter(64, 64, 0, 0), 64)
    with pytest.raises(ValueError, match="has no clicks"):
        write_points(tmp_path / "o.gpkg", tiles, tmp_path / "clicks", CLASSES, limit=9)
    tiles = write_clicks(tmp_path, "train", "b", np.full((8, 8), 2, np.uint8), 64)
    two = ClassTable(CLASSES.names[:2], CLASSES.colours[:2])
    with pytest.raises(ValueError, match=r"b\.tif has clicks of class 2, but there are 2 classes"):
        write_points(tmp_path / "o.gpkg", tiles, tmp_path / "clicks", two, limit=99)
    with pytest.raises(
        ValueError, match=r"o\.shp: format geopackage is written to a name that ends in \.gpkg"
    ):
        write_points(tmp_path / "o.shp", tiles, tmp_path / "clicks", CLASSES, limit=99)


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from tests.vectors.test_vectors import CLASSES, scatter, write_clicks, write_points
    out = Path(sys.argv[1]) / "out.gpkg"
    tiles = write_clicks(out.parent, "train", "a", scatter(100, 100, 2000, 0), 64)
    write_points(out, tiles, out.parent / "clicks", CLASSES, limit=2000)
    old, files = out.read_bytes(), sorted(out.parent.iterdir())
    for fraction in (0.1, 0.5, 0.7, 0.9, 0.99):
        limit = int(fraction * len(old))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
        try:
            write_points(out, tiles, out.parent / "clicks", CLASSES, limit=2000)
        except OSError as error:
            assert "out.gpkg could not be written" in str(error), error
        else:
            sys.exit(f"a limit of {limit} of {len(old)} bytes was not noticed")
        assert out.read_bytes() == old
        assert sorted(out.parent.iterdir()) == files
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE stands for a full disk")
@pytest.mark.slow
def test_a_full_disk_leaves_the_old_file_and_no_partial_one(tmp_path):
    done = run_python(FULL_DISK, str(tmp_path), str(Path(__file__).parents[2]))
    assert (done.returncode, done.stderr) == (0, "")
