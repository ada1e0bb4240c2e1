"""The commands sample, assess and change: from maps to areas with intervals."""

import json

import pytest
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.maps.map_files import PIXEL_COUNTS
from tests.assessment.maps import draw_ids, label, truth_of, write_map


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two maps side by side in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for seed, name in enumerate("ab"):
        write_map(tmp_path / f"{name}_classes.tif", draw_ids(seed=seed), x=500_000 + 800 * seed)
    return tmp_path


MAPS = ("a_classes.tif", "b_classes.tif")


def run(*args):
    return CliRunner().invoke(app, list(args))


def test_from_maps_to_a_sentence(folder):
    drawn = run("sample", *MAPS, "--out", "s.gpkg", "--points", "90")
    assert drawn.exit_code == 0, drawn.stderr
    assert "s.gpkg: 90 points in layer 'sample' (" in drawn.stderr
    label(folder / "s.gpkg", truth_of(*(folder / name for name in MAPS)))
    done = run("assess", *MAPS, "s.gpkg", "--out", "report")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("land ")
    assert done.stdout.splitlines()[0].endswith(" ha (95 %)")
    assert "report/report.html: stratified, strata are the map's classes" in done.stderr
    values = json.loads((folder / "report" / "report.json").read_text())
    assert values["overall"]["value"] == 1
    again = run("assess", *MAPS, "s.gpkg", "--out", "report")
    assert again.exit_code == 1
    assert "say --force" in again.stderr
    assert run("assess", *MAPS, "s.gpkg", "--out", "report", "--force").exit_code == 0


def test_a_size_says_what_was_assumed(folder):
    done = run("sample", *MAPS, "--out", "s.gpkg", "--half-width", "0.1")
    assert "note: size: 62 points for an interval of half-width 0.1 of the overall" in done.stderr
    done = run("sample", *MAPS, "--out", "t.gpkg", "--area-half-width", "road=50%")
    assert "points for an interval of half-width" in done.stderr


def test_change_is_a_map_and_says_what_its_numbers_are(folder):
    write_map(folder / "later.tif", draw_ids(seed=5))
    done = run("change", "a_classes.tif", "later.tif", "--out", "change.tif")
    assert done.exit_code == 0, done.stderr
    assert "change.tif: 9 from-to classes, " in done.stderr
    assert PIXEL_COUNTS in done.stderr
    assert run("sample", "change.tif", "--out", "c.gpkg", "--points", "120").exit_code == 0
    refused = run("change", "a_classes.tif", "b_classes.tif", "--out", "far.tif")
    assert "--resample" in refused.stderr


def test_a_new_map_is_assessed_when_told(folder):
    run("sample", "a_classes.tif", "--out", "s.gpkg", "--points", "60")
    label(folder / "s.gpkg", truth_of(folder / "a_classes.tif"))
    write_map(folder / "new.tif", draw_ids(seed=7))
    refused = run("assess", "new.tif", "s.gpkg", "--out", "r")
    assert (
        "pointcover assess: the sample is of other maps (not drawn from new.tif" in refused.stderr
    )
    done = run("assess", "new.tif", "s.gpkg", "--out", "r", "--other-map")
    assert "strata are not the map's classes (Stehman 2014)" in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sample", *MAPS, "--out", "s.gpkg"], "0 sizes of the sample are said"),
        (["sample", *MAPS, "--out", "s.gpkg", "--points", "20"], "20 points are too few for 3"),
        (["sample", *MAPS, "--out", "s.shp", "--points", "90"], "does not end in .gpkg"),
        (["sample", "none.tif", "--out", "s.gpkg", "--points", "9"], "none.tif does not exist"),
        (["sample", MAPS[0], MAPS[0], "--out", "s.gpkg", "--points", "90"], "is given twice"),
        (["assess", *MAPS, "none.gpkg", "--out", "r"], "none.gpkg does not exist, wanted the file"),
        (["change", *MAPS, "--out", "c.png"], "does not end in .tif"),
    ],
)
def test_what_is_refused_is_one_message(folder, command, said):
    before = sorted(path.name for path in folder.iterdir())
    done = run(*command)
    assert done.exit_code == 1
    assert f"pointcover {command[0]}: " in done.stderr
    assert said in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


def test_settings_that_are_not_allowed_are_refused(folder):
    done = run("sample", *MAPS, "--out", "s.gpkg", "--points", "9", "--allocation", "nyman")
    assert done.exit_code == 2
    assert "got 'nyman', wanted one of" in done.stderr
    done = run("sample", *MAPS, "--out", "s.gpkg", "--points", "9", "--minimum", "1")
    assert done.exit_code == 2
