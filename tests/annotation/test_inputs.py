"""Files of annotations with all that belongs to them: edits in any of them count."""

import contextlib
import shutil
import sqlite3

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from dvc.repo import Repo
from rasterio.windows import Window

from pointcover.annotation.inputs import NONE, find_label_files
from pointcover.labels import ClassTable
from pointcover.vectors.read import read_annotations
from pointcover.vectors.settings import VectorSettings
from tests.imagery import CRS, ROOT

CLASSES = ClassTable(("land", "water"), ((0, 0, 0), (255, 255, 255)))


def write_clicks(path, names=("land",)):
    path.parent.mkdir(parents=True, exist_ok=True)
    points = [shapely.Point(500_000 + number, 600_000) for number in range(len(names))]
    geopandas.GeoDataFrame({"class": list(names)}, geometry=points, crs=CRS).to_file(path)
    return path


def edit_in_qgis(path):
    """Change every class to water as QGIS does, which keeps the file open: into a -wal."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
        database.execute(f'DROP TRIGGER "{trigger}"')  # these need functions of GDAL
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with database:
        database.execute("UPDATE clicks SET class = 'water'")
    assert path.read_bytes() == before
    return database


def edit_table(path):
    """Change the class of a Shapefile in its table."""
    table = path.with_suffix(".dbf")
    before = path.read_bytes()
    table.write_bytes(table.read_bytes().replace(b"land ", b"water"))
    assert path.read_bytes() == before
    return contextlib.ExitStack()


EDITS = {"clicks.gpkg": edit_in_qgis, "clicks.shp": edit_table}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_beside_a_file_is_read_from_its_folder(tmp_path, name):
    path = write_clicks(tmp_path / "labels" / name)
    with contextlib.closing(EDITS[name](path)):
        read = read_annotations(*find_label_files(tmp_path / "labels"), CLASSES, VectorSettings())
    assert read.class_ids.tolist() == [1]


@pytest.mark.parametrize("name", EDITS)
def test_a_file_with_companions_is_refused_by_itself_with_what_to_do(tmp_path, name):
    path = write_clicks(tmp_path / name)
    with pytest.raises(ValueError, match=r"of which DVC would compare this one alone\. Move them "):
        find_label_files(path)


def test_a_geojson_is_a_file_by_itself(tmp_path):
    path = write_clicks(tmp_path / "clicks.geojson")
    assert find_label_files(path) == [path]
    assert find_label_files(tmp_path) == [path]


def test_a_folder_of_annotations_holds_one_file_of_them(tmp_path):
    write_clicks(tmp_path / "a.gpkg")
    write_clicks(tmp_path / "b.shp")
    with pytest.raises(ValueError, match=r"holds a\.gpkg, b\.shp, wanted one of them: join them"):
        find_label_files(tmp_path)


def test_the_folder_that_stands_for_none_has_no_annotations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clicks(NONE / "a.gpkg")
    assert find_label_files(NONE) == []


def test_a_folder_without_annotations_is_not_taken_for_none(project, blank_pictures):
    (project.root / "labels").mkdir()
    (project.root / "labels" / "notes.txt").write_text("x")
    project.set({"annotations": "labels"})
    said = project.refusal("download", "tile", "annotate")
    assert "labels holds no file that ends in .gpkg, .geojson, .shp, .json, .xml, .csv, " in said
    assert "and no folder clicks/ of click rasters" in said
    assert "set annotations to sources, which means none" in said


def test_click_rasters_of_no_orthophoto_are_warned_of(project, blank_pictures, caplog):
    project.run("download", "tile", "annotate")
    shutil.copytree(project.root / "data/sparse/clicks", project.root / "labels/clicks")
    shutil.copy(project.root / "labels/clicks/train/a.tif", project.root / "labels/clicks/aa.tif")
    project.set({"annotations": "labels", "annotate.sampler": "none"})
    project.run("annotate")
    assert "1 of the rasters in" in caplog.text
    assert "are not read: aa.tif" in caplog.text


def test_blocks_of_click_rasters_that_were_never_written_are_no_clicks(project, blank_pictures):
    project.run("download", "tile")
    path = project.root / "labels/clicks/train/a.tif"
    path.parent.mkdir(parents=True)
    with rasterio.open(project.root / "data/tiles/masks/train/a.tif") as like:
        profile = like.profile | {"nodata": None, "sparse_ok": True}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.full((1, 64, 64), 255, np.uint8), window=Window(0, 0, 64, 64))
    project.set({"annotations": "labels", "annotate.sampler": "none"})
    assert "would be read as clicks of class 'land'" in project.refusal("annotate")


@pytest.mark.slow  # starts DVC
@pytest.mark.parametrize("name", EDITS)
def test_dvc_finds_annotate_changed_by_an_edit_beside_the_file(tmp_path, name):
    path = write_clicks(tmp_path / "labels" / name)
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  annotate:\n    cmd: 'true'\n    deps: [labels]\n    outs: [out]\n"
    )
    (tmp_path / "out").write_text("x")
    Repo.init(str(tmp_path), no_scm=True).close()
    with contextlib.chdir(tmp_path), Repo(str(tmp_path)) as repo:
        repo.commit(force=True)
        assert not repo.status()
    with (
        contextlib.closing(EDITS[name](path)),
        contextlib.chdir(tmp_path),
        Repo(str(tmp_path)) as repo,
    ):
        assert "annotate" in repo.status()


@pytest.mark.parametrize("name", ["suggestions.csv", "index.csv"])
def test_tables_of_stages_beside_click_rasters_are_no_labels(tmp_path, name):
    (tmp_path / "clicks").mkdir()
    (tmp_path / name).write_text("orthophoto,row,col,answer\na,1,2,0\n")
    assert find_label_files(tmp_path) == []
    (tmp_path / "clicks").rmdir()
    assert find_label_files(tmp_path) == [tmp_path / name]
