"""Names of files and folders are names: none is read as a URL, an archive, a driver or a layer."""

import geopandas
import numpy as np
import pytest
import shapely

from pointcover.labels import ClassTable
from pointcover.raster.raster_io import RasterReader
from pointcover.vectors.paths import vector_path
from pointcover.vectors.read import read_annotations
from pointcover.vectors.settings import VectorSettings
from pointcover.vectors.write import write_geopackage
from tests.imagery import CRS, draw_image, write_raster

CLASSES = ClassTable(("land", "water"), ((0, 0, 0), (255, 255, 255)))
TABLE = geopandas.GeoDataFrame({"class": ["water"]}, geometry=[shapely.Point(5e5, 6e5)], crs=CRS)
NAMES = (
    *("a?b", "a|b", "a|layername=c", "a.zip", "vsizip", "a{b}", "http:", "file:", "GPKG:b", "zip:"),
    *("a%20b", "a#b", "a&b", 'a"b', "a'b", "a;b", "[a]", "a*b", "$HOME", " a b", "~", "-a", "a\\b"),
    *("b.gpkg", "Gewässer", "<a>"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_other_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.mkdir()
    image = draw_image(9, 9)
    write_raster(folder / "a.tif", image)
    write_geopackage(folder / "c.gpkg", folder / "c.gpkg", {"points": TABLE}, "style", "Point")
    (folder / "c.geojson").write_text(TABLE.to_crs(4326).to_json(), encoding="utf-8")
    here = folder.relative_to(tmp_path)
    for file in ("c.gpkg", "c.geojson"):
        read = read_annotations(here / file, CLASSES, VectorSettings())
        assert read.class_ids.tolist() == [1]
    reader = RasterReader(here / "a.tif")
    assert np.array_equal(reader.read(reader.dataset.window(*reader.dataset.bounds)), image)


@pytest.mark.parametrize("name", ["a!b", "x.zip!", "a\nb", "a\tb"])
def test_a_name_that_pyogrio_would_change_is_refused_for_reading_and_writing(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "c.geojson").write_text(TABLE.to_crs(4326).to_json(), encoding="utf-8")
    with pytest.raises(ValueError, match=r"in its path, with which vector files cannot be read or"):
        read_annotations(folder / "c.geojson", CLASSES, VectorSettings())
    with pytest.raises(ValueError, match="rename the file or folder"):
        write_geopackage(folder / "c.gpkg", folder / "c.gpkg", {"points": TABLE}, "x", "Point")
    assert not (folder / "c.gpkg").exists()


def test_a_path_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert vector_path(tmp_path.relative_to(tmp_path) / "a.gpkg") == tmp_path / "a.gpkg"
