"""Rasters at addresses: read by windows, only where the user typed them, and errors of our own."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from rasterio.shutil import copy
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.raster import raster_io
from pointcover.raster.addresses import Address, parse_image
from pointcover.raster.overviews import LevelReader
from pointcover.raster.raster_io import (
    RasterReader,
    ResampledReader,
    Window,
    check_raster_file,
)
from tests.imagery import write_raster
from tests.servers import serve_folder

SIDE = 2048
COG = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A GeoTIFF of noise, as large as its pixels, and files that are none."""
    found = tmp_path_factory.mktemp("served")
    values = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), np.uint8)
    write_raster(found / "noise.tif", values, **COG)
    (found / "text.tif").write_bytes(b"hello " * 1000)
    (found / "other.tif").write_text(
        f'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{found / 'noise.tif'}</SourceFilename></SimpleSource>"
        f"</VRTRasterBand></VRTDataset>"
    )
    write_raster(found / "nowhere.tif", values[:, :300, :300], crs=None, transform=None)
    return found


@pytest.fixture
def server(folder, monkeypatch):
    """A server of the folder; nothing waits long."""
    monkeypatch.setattr(raster_io, "READ_DELAY_S", 0.01)
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    with serve_folder(folder) as state:
        yield state


def content(folder: Path, window: Window) -> np.ndarray:
    return RasterReader(folder / "noise.tif").read(window)


WINDOW = Window(900, 700, 300, 200)


# Which addresses are read ------------------------------------------------------------------------


def test_addresses_look_like_paths_and_keep_their_query_for_themselves():
    made = parse_image("https://host.org/folder/B4.tif?sig=secret%2F")
    assert isinstance(made, Path)
    assert str(made) == f"{made}" == "https://host.org/folder/B4.tif"
    assert "secret" not in repr(made)
    assert (made.stem, made.name, made.suffix) == ("B4", "B4.tif", ".tif")
    assert made.gdal_name == "/vsicurl/https://host.org/folder/B4.tif?sig=secret%2F"
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), again.url, again) == (Address, made.url, made)
    assert made.resolve() is made.absolute() is made
    for other in (made.parent, made.with_suffix(".json"), made / "x", made.with_name("y")):
        assert not isinstance(other, Address)
    assert parse_image("s3://bucket/a/b?.tif").gdal_name == "/vsis3/bucket/a/b?.tif"


@pytest.mark.parametrize("text", ["a.tif", "https:/a.tif", "./s3:/a/b", "C:/x.tif", "/vsicurl/x"])
def test_paths_stay_paths(text):
    assert not isinstance(parse_image(text), Address)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://host.org/a.tif", "begins with http://, wanted https:// or s3://"),
        ("ftp://host.org/a.tif", "begins with ftp://"),
        ("file:///etc/passwd", "begins with file://"),
        ("gs://bucket/a.tif", "begins with gs://"),
        ("https://me:word@host.org/a.tif", "has a password in its address"),
        ("https://host.org", "names no file"),
        ("https:///a.tif", "names no file"),
        ("https://host.org/a b.tif", "write them as %20"),
        ("http://localhost.evil.org/a.tif", "begins with http://"),
    ],
)
def test_other_addresses_are_refused(text, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        parse_image(text)
    done = CliRunner().invoke(app, ["predict", "models", text, "--out", "x"])
    assert done.exit_code == 2
    assert "word" not in done.stderr or "password" in done.stderr


def test_a_path_that_reads_like_an_address_is_not_fetched(server):
    """As from a card, a file or a request: no `parse_image`, no connection."""
    for path in (Path(server.url("noise.tif")), Path(f"/vsicurl/{server.url('noise.tif')}")):
        with pytest.raises(FileNotFoundError):
            RasterReader(path).info()
    assert server.requests == []


# Reading -----------------------------------------------------------------------------------------


def test_a_window_is_read_without_the_whole_file(server, folder):
    reader = RasterReader(parse_image(server.url("noise.tif")))
    assert (reader.read(WINDOW) == content(folder, WINDOW)).all()
    size = (folder / "noise.tif").stat().st_size
    assert server.sent < size / 4
    names = {path for _, path, _ in server.requests}
    assert names == {"/noise.tif"}  # nothing beside it is asked for
    reader.close()


def test_checking_a_raster_fetches_its_header_alone(server, folder):
    size = (folder / "noise.tif").stat().st_size
    assert check_raster_file(parse_image(server.url("noise.tif"))) == "GTiff"
    assert not RasterReader(parse_image(server.url("noise.tif"))).check_whole().any()
    assert server.sent < size / 50


def test_a_claim_of_too_many_blocks_is_not_followed(server, monkeypatch):
    monkeypatch.setattr(raster_io, "MOST_BLOCKS", 191)
    with pytest.raises(ValueError, match="has 192 blocks of 256 × 256 px, wanted at most 191"):
        RasterReader(parse_image(server.url("noise.tif"))).check_whole()


def test_a_query_is_sent(server):
    reader = RasterReader(parse_image(server.url("noise.tif?sig=a%2Fb")))
    assert reader.info().height == SIDE
    assert {path for _, path, _ in server.requests} == {"/noise.tif?sig=a%2Fb"}


def test_the_digest_follows_the_content(server, folder, tmp_path):
    first = RasterReader(parse_image(server.url("noise.tif"))).digest()
    assert first == RasterReader(parse_image(server.url("noise.tif"))).digest()
    values = content(folder, Window(0, 0, SIDE, SIDE))
    values[:, 1000:1300, 1000:1300] = 0
    write_raster(tmp_path / "noise.tif", values, **COG)
    with serve_folder(tmp_path) as other:
        found = RasterReader(parse_image(other.url("noise.tif"))).digest()
    assert len(found) == len(first) == 64
    assert found != first
    local = RasterReader(folder / "noise.tif")
    assert local.digest() == raster_io.sha256(folder / "noise.tif")


def test_levels_are_read_from_an_address(server, folder, tmp_path):
    """What the labelling page reads."""
    reader = LevelReader(parse_image(server.url("noise.tif")), (1, 2, 3), tmp_path)
    local = LevelReader(folder / "noise.tif", (1, 2, 3), tmp_path)
    for level in range(local.levels):
        ours, theirs = (one.read(level, 3, 5, (64, 80))[0] for one in (reader, local))
        assert (ours == theirs).all()
    assert reader.key != local.key


def test_coarse_levels_are_read_from_the_overviews_of_a_cog(server, folder, tmp_path):
    values = np.random.default_rng(1).integers(0, 255, (3, 2001, 1501), np.uint8)
    smooth = values // 8 + np.arange(1501, dtype=np.uint8) // 8
    plain = write_raster(tmp_path / "plain.tif", smooth)
    copy(plain, folder / "cog.tif", driver="COG", blocksize=256, overview_resampling="average")
    local = LevelReader(plain, (1, 2, 3), tmp_path)
    reader = LevelReader(parse_image(server.url("cog.tif")), (1, 2, 3), tmp_path / "cache")
    assert reader.is_ready
    before = server.sent
    level = local.levels - 1
    size = local.size(level)
    ours, theirs = (one.read(level, 0, 0, size)[0].astype(int) for one in (reader, local))
    assert np.abs(ours - theirs).mean() < 1
    assert server.sent - before < (folder / "cog.tif").stat().st_size / 2
    assert not (tmp_path / "cache").exists()
    reader.close()


# Failures ----------------------------------------------------------------------------------------


def test_a_busy_server_is_asked_again(server, folder):
    server.refusals = [503, 503]
    reader = RasterReader(parse_image(server.url("noise.tif")))
    reader.info()
    server.refusals = [503, 503]
    assert (reader.read(WINDOW) == content(folder, WINDOW)).all()
    assert server.refusals == []


def test_a_connection_that_breaks_off_is_tried_again(server, folder):
    reader = RasterReader(parse_image(server.url("noise.tif")))
    reader.info()
    server.breaks = 2
    assert (reader.read(WINDOW) == content(folder, WINDOW)).all()
    assert server.breaks == 0


@pytest.mark.parametrize("reduced", [False, True])
def test_what_broke_off_is_not_kept(server, folder, reduced):
    """GDAL keeps parts of a file that came to an early end, and then never asks for the rest."""

    def open_reader(path):
        if reduced:
            return ResampledReader(path, SIDE // 2, SIDE // 2, averaged=False)
        return RasterReader(path)

    window = Window(300, 400, 60, 40)
    reader = open_reader(parse_image(server.url("noise.tif")))
    reader.info()
    server.breaks = 1000
    with pytest.raises(ConnectionError):
        reader.read(window)
    server.breaks = 0
    assert (reader.read(window) == open_reader(folder / "noise.tif").read(window)).all()


def test_a_connection_that_stays_broken_is_said(server):
    reader = RasterReader(parse_image(server.url("noise.tif")))
    reader.info()
    server.breaks = 1000
    with pytest.raises(ConnectionError, match="broke off while rows 700 to 900 were read, 3 times"):
        reader.read(WINDOW)


@pytest.mark.parametrize(
    ("name", "state", "kind", "message"),
    [
        ("none.tif", {}, FileNotFoundError, "does not exist on the server .status 404"),
        ("noise.tif?no=403", {"refusals": [403] * 50}, PermissionError, "refuses access .*403"),
        ("noise.tif?no=503", {"refusals": [503] * 50}, ConnectionError, "is busy .status 503"),
        ("noise.tif?no=ranges", {"has_ranges": False}, OSError, "sends whole files alone"),
        ("text.tif", {}, OSError, "is no GeoTIFF .it begins with b'hello he'"),
        ("other.tif", {}, OSError, "is no GeoTIFF .it begins with b'<VRTData'"),
        ("nowhere.tif", {}, ValueError, "has no transform, and its tag Orientation is not read"),
    ],
)
def test_what_cannot_be_read_is_said(server, name, state, kind, message):
    for key, value in state.items():
        setattr(server, key, value)
    with pytest.raises(kind, match=message):
        RasterReader(parse_image(server.url(name))).info()


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/noise.tif"])
def test_no_redirect_leaves_http(server, folder, target):
    server.redirect = target.replace("/etc/hostname", str(folder / "noise.tif"))
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        RasterReader(parse_image(server.url("noise.tif?to=elsewhere"))).info()


def test_a_server_that_is_not_there_is_said(server):
    gone = server.url("x.tif").replace(server.address, "http://127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"no connection to 127\.0\.0\.1"):
        RasterReader(parse_image(gone)).info()
    with pytest.raises(ConnectionError, match=r"no connection to nohost\.invalid"):
        RasterReader(parse_image("https://nohost.invalid/a.tif")).info()


# S3 ----------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(server, monkeypatch):
    """The same server as one of S3, with credentials in the environment."""
    for name, value in {
        "AWS_S3_ENDPOINT": server.address.removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "who",
        "AWS_SECRET_ACCESS_KEY": "word",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_NO_SIGN_REQUEST"):
        monkeypatch.delenv(name, raising=False)
    server.folder = server.folder.parent  # the bucket is the folder
    return server


def test_a_window_of_a_bucket_is_read_with_the_credentials_of_the_environment(bucket, folder):
    reader = RasterReader(parse_image(f"s3://{folder.name}/noise.tif"))
    assert (reader.read(WINDOW) == content(folder, WINDOW)).all()
    assert bucket.sent < (folder / "noise.tif").stat().st_size / 4
    signed = {headers["Authorization"].partition("/")[0] for _, _, headers in bucket.requests}
    assert signed == {"AWS4-HMAC-SHA256 Credential=who"}


def test_a_public_bucket_needs_no_credentials(bucket, folder, monkeypatch):
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    reader = RasterReader(parse_image(f"s3://{folder.name}/text.tif"))
    with pytest.raises(OSError, match="is no GeoTIFF"):
        reader.info()
    assert not any("Authorization" in headers for _, _, headers in bucket.requests)


@pytest.mark.parametrize(
    ("key", "refusals", "kind", "message"),
    [
        ("none.tif", [], FileNotFoundError, "does not exist in the bucket"),
        ("noise403.tif", [403] * 50, PermissionError, "access is refused .*AWS_PROFILE"),
        ("noise503.tif", [503] * 50, ConnectionError, "cannot be read .*try again"),
    ],
)
def test_what_a_bucket_refuses_is_said(bucket, folder, key, refusals, kind, message):
    bucket.refusals = refusals
    with pytest.raises(kind, match=message):
        RasterReader(parse_image(f"s3://{folder.name}/{key}")).info()
