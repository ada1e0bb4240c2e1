"""Commands answer at once, say in one message what is wrong, and replace nothing unasked."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.raster.grids import north_up
from pointcover.raster.raster_io import GeoTiffProfile, Window, write_geotiff
from pointcover.runtime import devices
from pointcover.study import conducting
from pointcover.study.conducting import Conducted
from pointcover.study.plan import Member
from pointcover.study.running import Ended, Job
from pointcover.tileset.source_images import SourceImage, write_source_images
from pointcover.tileset.tiles import Tile, TileSet, raster_path, write_index, write_tile_set
from tests.imagery import ROOT
from tests.processes import run_python

CLASSES = ClassTable(("land", "water"), ((1, 2, 3), (4, 5, 6)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project after its annotate stage, with two clicks, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    clicks = np.full((1, 64, 64), IGNORE_INDEX, np.uint8)
    clicks[0, 3, 5], clicks[0, 9, 9] = 0, 1
    path = raster_path(Path("data/sparse/clicks"), "train", "a")
    with write_geotiff(
        path,
        GeoTiffProfile(
            height=64,
            width=64,
            bands=1,
            block_px=64,
            crs="EPSG:2180",
            transform=north_up(500_000, 600_000, 0.5),
            nodata=IGNORE_INDEX,
        ),
    ) as out:
        out.write(clicks, Window(0, 0, 64, 64))
    tile = Tile("a_0", "a", "a", "train", 0, 0, 64, 64, (1, 1))
    write_index(Path("data/sparse/index.csv"), [tile], CLASSES.names)
    write_tile_set(
        Path("data/tiles/tiles.json"),
        TileSet(CLASSES, 64, (0.5,), (0.0,) * 3, (1.0,) * 3, (0, 255), (1, 2, 3)),
    )
    image = SourceImage("a", "images/a.tif", 64, 64, 1, is_placed=True)
    write_source_images(Path("data/tiles"), [image])
    return tmp_path


def run(*args):
    return CliRunner().invoke(app, list(args))


def test_points_writes_clicks_and_prints_their_number(folder):
    done = run("points", "out/points.gpkg")
    assert done.exit_code == 0
    assert done.stderr == "out/points.gpkg: 2 in layer 'points'\n"
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["points.gpkg", "points.qml"]


@pytest.mark.parametrize(
    ("command", "ending"),
    [
        (["points"], ".gpkg"),
        (["suggest", "no-model", "a.tif", "--out"], ".gpkg"),
        (["export", "no-model", "--out"], ".onnx"),
    ],
)
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("afile/x", "afile/x{} cannot be written (afile is not a folder): choose another name"),
        ("/proc/x", "/proc/x{} cannot be written"),
        ("dd", "dd{} is a folder, wanted the name of a file"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_first(folder, command, ending, place, said):
    (folder / "afile").write_text("mine")
    (folder / f"dd{ending}").mkdir()
    before = sorted(folder.iterdir())
    done = run(*command, f"{place}{ending}", "--force")
    assert done.exit_code == 1
    assert said.format(ending) in done.stderr
    assert "Errno" not in done.stderr
    assert sorted(folder.iterdir()) == before


def test_a_folder_with_the_name_of_the_style_is_refused_first(folder):
    (folder / "next.qml").mkdir()
    done = run("suggest", "no-model", "a.tif", "--out", "next.gpkg", "--force")
    assert "next.qml is a folder, but a file of this name is to be written" in done.stderr


@pytest.mark.parametrize("name", ["points.gpkg", "points.qml"])
def test_existing_files_are_replaced_only_with_force(folder, name):
    (folder / name).write_text("mine")
    done = run("points", "points.gpkg")
    assert done.exit_code == 1
    assert done.stderr == (
        f"\npointcover points: {name} exists: choose another name, or add --force to replace\n"
    )
    assert (folder / name).read_text() == "mine"
    assert run("points", "points.gpkg", "--force").exit_code == 0
    assert "mine" not in (folder / name).read_text(errors="replace")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sparse", "nowhere"], "nowhere/index.csv does not exist: run `dvc repro`"),
        (["--tiles", "nowhere"], "nowhere/tiles.json does not exist: run `dvc repro`"),
        (["--limit", "1"], "there are more than 1 clicks"),
    ],
)
def test_an_error_is_one_message_and_nothing_is_written(folder, options, said):
    done = run("points", "points.gpkg", *options)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"\npointcover points: {said}")
    assert done.stderr.count("\n") == 2
    assert sorted(path.name for path in folder.iterdir()) == ["data"]


def test_the_debug_switch_shows_where_an_error_came_from(folder, monkeypatch):
    monkeypatch.setenv("POINTCOVER_DEBUG", "1")
    done = run("points", "points.gpkg", "--sparse", "nowhere")
    assert done.exit_code == 1
    assert isinstance(done.exception, FileNotFoundError)


def test_in_a_process_an_error_is_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from pointcover.cli import app; app()", "points", "a.gpkg"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "\npointcover points: data/tiles/tiles.json does not exist: run `dvc repro`, which runs "
        "the stage that writes it\n"
    )


def test_help_imports_no_heavy_library():
    done = run_python("""
        import sys
        from pointcover.cli.app import app
        try:
            app(["--help"])
        except SystemExit:
            pass
        heavy = {"numpy", "torch", "rasterio", "geopandas", "pandas", "mlflow"}
        sys.exit(f"loaded: {heavy & set(sys.modules)}" if heavy & set(sys.modules) else 0)
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert "points" in done.stdout


@pytest.mark.parametrize(("gpus", "said"), [(0, []), (1, []), (1, ["-S", "machine.readers=9"])])
def test_parallel_experiments_divide_the_cores_for_reading(monkeypatch, gpus, said):
    seen = {}

    def conduct(choice, root, out, pool):
        seen.update(choice.settings)
        return Conducted(0)

    monkeypatch.setattr(conducting, "conduct", conduct)
    monkeypatch.setattr(devices, "count_gpus", lambda: gpus)
    monkeypatch.setattr(devices, "cpu_count", lambda: 16)
    assert run("study", "studies/c_linking.yaml", "--jobs", "4", *said).exit_code == 0
    assert seen == ({"machine.readers": 9 if said else 3} if gpus else {})


def test_a_study_without_a_result_names_no_report(monkeypatch, tmp_path):
    log = tmp_path / "a.log"
    log.write_text("ERROR: failed\n")
    failed = [Ended(Job(Member("links", (), 10, 1, ()), "a", "d"), None, log)]
    monkeypatch.setattr(conducting, "conduct", lambda *_: Conducted(1, failed=failed))
    done = run("study", "studies/c_linking.yaml")
    assert done.exit_code == 1
    assert "1 of 1 experiments failed; no report was written." in done.stderr
    assert "report.html" not in done.stderr
    assert "in the report" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "nowhere", "a.tif", "--out", "new/maps"], "nowhere is not a model"),
        (["predict", "empty", "a.tif", "--out", "new/maps"], "empty/model.pt does not exist"),
        (["predict", "model", "b.tif", "--out", "new/maps"], "b.tif does not exist"),
        (["predict", "model", "a.txt", "--out", "new/maps"], "a.txt is no raster"),
        (["predict", f"runs:/{'0' * 32}", "a.tif", "--out", "new"], "there is no MLflow store"),
        (["suggest", "model", "b.tif", "--out", "new/next.gpkg"], "b.tif does not exist"),
        (["export", "nowhere", "--out", "new/a.onnx"], "nowhere is not a model"),
    ],
)
def test_a_missing_input_is_told_at_once_and_leaves_nothing(tmp_path, arguments, said):
    for name in ("model", "empty"):
        (tmp_path / name).mkdir()
    for name in ("model/model.pt", "model/model.json", "a.txt"):
        (tmp_path / name).write_text("x" * 99)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(99))
    code = f"""
        import sys, os
        from pointcover.cli.app import app
        os.chdir({str(tmp_path)!r})
        try:
            app({arguments})
        finally:
            heavy = {{"torch", "timm", "mlflow", "geopandas", "scipy", "skimage"}}
            print(*(heavy & set(sys.modules)))
    """
    done = run_python(code)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == "\n", "imported before the check"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "a.txt", "empty", "model"]
