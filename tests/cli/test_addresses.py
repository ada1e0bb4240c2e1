"""Commands read rasters at addresses, and make what they make of the files."""

import json

import pyogrio
import pytest
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.maps.journal import MapJournal
from pointcover.raster import raster_io
from tests.assessment.maps import draw_ids, write_map
from tests.imagery import PLACE, draw_image, write_raster
from tests.map_models import save_model
from tests.servers import serve_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of images, and a working directory with a model."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setattr(raster_io, "READ_DELAY_S", 0.01)
    save_model(work / "model")
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    write_raster(tmp_path / "served" / "a.tif", draw_image(300, 260), **options)
    with serve_folder(tmp_path / "served") as state:
        yield state


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_map_is_that_of_the_file(server):
    signed = f"{server.url('a.tif')}?sig=secret"
    done = run("predict", "model", signed, "--out", "there", "--window-px", "64")
    assert done.exit_code == 0, done.stderr
    size = (server.folder / "a.tif").stat().st_size
    assert server.sent < 3 * size  # read once or twice, not for each window
    here = run("predict", "model", server.folder / "a.tif", "--out", "here", "--window-px", "64")
    assert here.exit_code == 0
    names = {path.name for path in (server.folder.parent / "work" / "here").iterdir()}
    for name in sorted(names - {"a.json"}):
        ours, theirs = ((server.folder.parent / "work" / at / name) for at in ("there", "here"))
        assert ours.read_bytes() == theirs.read_bytes(), name
    text = (server.folder.parent / "work" / "there" / "a.json").read_text()
    assert "secret" not in text
    assert json.loads(text)["image"] == "a.tif"
    again = run("predict", "model", signed, "--out", "there", "--window-px", "64")
    assert "there/a_classes.tif exists already" in again.stderr


def test_a_map_of_which_the_connection_breaks_is_resumed(server, monkeypatch):
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    write_raster(server.folder / "long.tif", draw_image(2000, 200), **options)
    made, server.cuts = [], True

    def cut_off(self, number, strip, counts, save=MapJournal.save):
        save(self, number, strip, counts)
        made.append(number)
        server.breaks = 1000 if server.cuts else 0  # all answers from now on

    monkeypatch.setattr(MapJournal, "save", cut_off)
    arguments = ("predict", "model", server.url("long.tif"), "--out", "out", "--window-px", "64")
    first = run(*arguments)
    assert first.exit_code == 1
    assert "the connection broke off" in first.stderr
    assert "run the command again" in first.stderr
    assert made[0] == 0
    assert not (server.folder.parent / "work" / "out" / "long.json").exists()
    done = len(made)
    server.breaks = 0
    server.cuts = False
    again = run(*arguments)
    assert again.exit_code == 0, again.stderr
    assert made[done] == done  # the first that was missing


def test_bands_that_are_not_read_and_nodata_are_no_hindrance(server):
    values = draw_image(200, 150, bands=5)
    values[:, :50] = 0
    values[3:, :60] = 0
    write_raster(server.folder / "five.tif", values, nodata=0)
    for image, out in ((server.url("five.tif"), "there"), (server.folder / "five.tif", "here")):
        done = run("predict", "model", image, "--out", out, "--window-px", "64")
        assert done.exit_code == 0, done.stderr
    ours, theirs = (
        (server.folder.parent / "work" / out / "five_classes.tif").read_bytes()
        for out in ("there", "here")
    )
    assert ours == theirs
    coarse = PLACE @ PLACE.scale(2)
    write_raster(server.folder / "coarse.tif", values, nodata=0, transform=coarse)
    refused = run("predict", "model", server.url("coarse.tif"), "--out", "x", "--resample")
    assert refused.exit_code == 1
    assert "with which an address is not resampled: download the file" in refused.stderr


def test_suggestions_are_those_of_the_file(server):
    tables = []
    for image, out in ((server.url("a.tif"), "there.gpkg"), (server.folder / "a.tif", "here.gpkg")):
        done = run("suggest", "model", image, "--out", out, "--points", "8", "--distance-px", "9")
        assert done.exit_code == 0, done.stderr
        tables.append(pyogrio.read_dataframe(out, layer="suggestions"))
    assert tables[0].equals(tables[1])


def test_a_map_on_a_server_is_sampled(server, tmp_path):
    write_map(server.folder / "a_classes.tif", draw_ids())
    done = run("sample", server.url("a_classes.tif"), "--out", "s.gpkg", "--points", "60")
    assert done.exit_code == 0, done.stderr
    drawn = run("sample", server.folder / "a_classes.tif", "--out", "t.gpkg", "--points", "60")
    assert drawn.exit_code == 0
    found = [pyogrio.read_dataframe(name, layer="sample") for name in ("s.gpkg", "t.gpkg")]
    assert found[0].geometry.equals(found[1].geometry)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "model", "none.tif", "--out", "x"), "does not exist on the server"),
        (("suggest", "model", "none.tif", "--out", "x.gpkg"), "does not exist on the server"),
        (
            ("sample", "none.tif", "--out", "x.gpkg", "--points", "9"),
            "does not exist on the server",
        ),
    ],
)
def test_what_is_not_there_has_one_message(server, arguments, message):
    done = run(*(server.url(one) if one == "none.tif" else one for one in arguments))
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 2
