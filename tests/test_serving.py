"""A served model gives the map that predict writes, and says what is wrong with a request."""

import base64
import contextlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from mlflow.exceptions import MlflowException
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.maps.mapper import Mapper
from pointcover.networks.architectures import MODELS, PIXEL_CLASSIFIER
from pointcover.networks.checkpoint import save_checkpoint
from pointcover.networks.description import Checkpoint
from pointcover.networks.segmenter import PixelSegmenter
from pointcover.runtime.atomic_files import sha256
from pointcover.tracking import runs as tracking
from pointcover.tracking.mlmodel import FILES, write_mlmodel
from pointcover.training.classifiers.fit import MEAN
from tests.classifiers import fit
from tests.imagery import CRS, ROOT, draw_image, write_raster
from tests.map_models import CLASSES, TILE_SET, save_model
from tests.train_settings import network_settings

CLASSIFIERS = [name for name, each in MODELS.items() if each.fitted_by == PIXEL_CLASSIFIER]

LIMIT = {"megapixels": 0.02, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model as MLflow keeps it."""
    folder = tmp_path_factory.mktemp("registered")
    save_model(folder)
    write_mlmodel(folder, "0" * 32, "model")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return mlflow.pyfunc.load_model(str(folder), model_config=LIMIT)


@pytest.fixture
def image(tmp_path):
    """An orthophoto with a hole, under the name that it has while it is served."""
    values = draw_image(100, 130)
    values[:, 10:40, 20:60] = 0
    return write_raster(tmp_path / "image", values, nodata=0)


def tiff(tmp_path, *size, **options):
    return write_raster(tmp_path / "odd", np.ones(size, options.pop("dtype", np.uint8)), **options)


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def ask(model, *images, **params):
    return model.predict(pd.DataFrame({"image": list(images)}), params=params)


def refusal(model, *images, **params):
    with pytest.raises(MlflowException) as caught:
        ask(model, *images, **params)
    assert caught.value.get_http_status_code() == 400
    return caught.value.message


def predicted(folder, image, out):
    """Map an image by the command; give the bytes of both rasters."""
    options = ["--out", str(out), "--device", "cpu", "--precision", "fp32"]
    done = CliRunner().invoke(app, ["predict", str(folder), str(image), *options])
    assert done.exit_code == 0, done.output
    return [(out / f"image_{what}.tif").read_bytes() for what in ("classes", "confidence")]


def test_the_served_map_is_the_one_that_predict_writes(folder, model, image, tmp_path):
    (answer,) = ask(model, image.read_bytes(), confidence=True)
    classes, confidence = predicted(folder, image, tmp_path / "out")
    assert answer["classes"] == classes
    assert answer["confidence"] == confidence
    with rasterio.MemoryFile(answer["classes"]) as file, file.open() as made:
        found = made.read(1)
        assert (made.crs, made.nodata) == (CRS, 255)
        assert made.transform == from_origin(500_000, 600_000, 0.25, 0.25)
        assert [made.colormap(1)[n][:3] for n in range(4)] == list(CLASSES.colours)
    assert (found == 255).sum() == 30 * 40
    fractions = {
        name: (found == n).sum() / (found < 255).sum() for n, name in enumerate(CLASSES.names)
    }
    assert answer["fractions"] == pytest.approx(fractions, abs=1e-6)
    assert sum(answer["areas_m2"].values()) == pytest.approx((100 * 130 - 30 * 40) / 16, abs=0.1)
    assert "image 1: 9.2 % of it has no data, and no class" in answer["remarks"]


def test_a_picture_that_its_tag_turns_is_refused(model):
    data, exif = io.BytesIO(), Image.Exif()
    exif[274] = 6
    picture = Image.fromarray(draw_image(70, 90).transpose(1, 2, 0))
    picture.save(data, "JPEG", exif=exif)
    said = refusal(model, data.getvalue())
    assert said.startswith("image 1 is turned by 90° clockwise by its tag Orientation (6)")


@pytest.mark.parametrize("driver", ["PNG", "JPEG"])
def test_a_picture_without_a_crs_gives_a_map_without_one(model, tmp_path, driver):
    path = write_raster(tmp_path / "a", draw_image(70, 90), driver=driver, crs=None)
    (answer,) = ask(model, path.read_bytes())
    assert answer["remarks"] == [
        "image 1 has no CRS, so its map has none either",
        "the GSD of image 1 is not known, so it is not compared with that of training (0.25 m): "
        "set it with params.gsd_m",
    ]
    assert set(answer["areas_m2"].values()) == {None}
    with (
        rasterio.MemoryFile(answer["classes"]) as file,
        pytest.warns(NotGeoreferencedWarning),
        file.open() as made,
    ):
        assert (made.shape, made.crs) == ((70, 90), None)


def test_an_image_without_data_has_a_remark_and_no_fractions(model, tmp_path):
    path = write_raster(tmp_path / "a", draw_image(70, 90) * 0, nodata=0)
    (answer,) = ask(model, path.read_bytes())
    assert set(answer["fractions"].values()) == {None}
    (remark,) = answer["remarks"]
    assert remark.startswith("image 1: no pixel has data")


def test_bytes_and_base64_in_any_form_of_mlflow_are_one_image(model, tmp_path):
    image = tiff(tmp_path, 3, 64, 64)
    (wanted,) = ask(model, image.read_bytes())
    assert set(wanted) == {"classes", "fractions", "areas_m2", "remarks"}
    text = encoded(image)
    lines = base64.encodebytes(image.read_bytes())
    for value in (text.encode(), lines, np.bytes_(lines)):
        assert ask(model, value)[0]["classes"] == wanted["classes"]
    (answer,) = model.predict({"image": np.array([text], np.bytes_)})  # as of `inputs`
    assert answer["classes"] == wanted["classes"]


def test_images_of_one_request_are_answered_in_their_order(model, tmp_path):
    paths = [write_raster(tmp_path / str(n), draw_image(60 + n, 40, seed=n)) for n in range(2)]
    answers = ask(model, *(path.read_bytes() for path in paths))
    assert answers == [ask(model, path.read_bytes())[0] for path in paths]
    assert answers[0]["classes"] != answers[1]["classes"]


WRONG = {
    "nothing": (lambda at: b"", {}, r"image 1 is not an image \(it begins with b''\)"),
    "a text": (lambda at: b"hello", {}, r"is not an image \(it begins with b'hello'\): wanted the"),
    "a VRT": (lambda at: b"<VRTDataset/>", {}, "wanted the bytes of a GeoTIFF, PNG, JPEG or JPEG"),
    "one band": (lambda at: tiff(at, 1, 64, 64), {}, r"image 1 has 1 band\(s\), but bands 1,2,3"),
    "16 bits": (lambda at: tiff(at, 3, 64, 64, dtype=np.uint16), {}, "set with params.value_range"),
    "cut short": (lambda at: tiff(at, 3, 64, 64).read_bytes()[:9000], {}, "image 1 is cut short"),
    "damaged": (lambda at: b"\x89PNG" + bytes(99), {}, "image 1 is damaged or cut short"),
    "too large": (
        lambda at: tiff(at, 3, 200, 101),
        {},
        r"image 1 has 200 × 101 px, wanted at most 0.02 megapixels .* higher `megapixels`",
    ),
    "many bands": (
        lambda at: tiff(at, 900, 30, 30),
        {},
        r"has 900 band\(s\), .* 810000 values to decode",
    ),
    "bands": (lambda at: tiff(at, 3, 64, 64), {"bands": "3,x"}, "params.bands: got '3,x'"),
    "alike bands": (
        lambda at: tiff(at, 3, 64, 64),
        {"bands": "3,9,1"},
        "to read with params.bands",
    ),
    "GSD": (lambda at: tiff(at, 3, 64, 64), {"gsd_m": 0.0}, "params.gsd_m: got 0, wanted metres"),
    "two GSDs": (lambda at: tiff(at, 3, 64, 64), {"gsd_m": 9.0}, "has a GSD of 0.25 m by its CRS"),
}


@pytest.mark.parametrize(("make", "params", "said"), WRONG.values(), ids=WRONG)
def test_an_invalid_request_is_an_error_of_the_client(model, tmp_path, make, params, said):
    made = make(tmp_path)
    reason = refusal(model, made if isinstance(made, bytes) else made.read_bytes(), **params)
    assert re.search(said, reason), reason
    assert tempfile.gettempdir() not in reason, "a sender knows of no paths here"
    assert "--" not in reason, "and of no options of the command line"


def test_a_request_without_images_is_refused(model):
    with pytest.raises(MlflowException, match="column 'image' is empty"):
        model.predict(pd.DataFrame({"image": np.array([], object)}))
    with pytest.raises(MlflowException, match=r"missing inputs \['image'\]") as caught:
        model.predict(pd.DataFrame({"picture": [b"II*"]}))
    assert caught.value.get_http_status_code() == 400


def test_the_limit_is_one_for_all_images_of_a_request(model, tmp_path):
    image = tiff(tmp_path, 3, 110, 110).read_bytes()
    ask(model, image)
    assert re.search("image 2 has 110 × 110 px, .* 0.0079 megap", refusal(model, image, image))


def test_a_map_that_resampling_makes_too_large_is_refused(tmp_path):
    save_model(tmp_path / "fine", tile_set=replace(TILE_SET, gsds_m=(0.05,)))
    write_mlmodel(tmp_path / "fine", "0" * 32, "model")
    fine = mlflow.pyfunc.load_model(str(tmp_path / "fine"), model_config=LIMIT)
    image = tiff(tmp_path, 3, 60, 60).read_bytes()
    assert "use params.resample" in refusal(fine, image)
    assert "the map of image 1 would have 300 × 300 px" in refusal(fine, image, resample=True)


def test_other_errors_are_errors_of_the_server(model, image, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr(Mapper, "make", fail)
    with pytest.raises(MlflowException, match="OSError: the disk is full") as caught:
        ask(model, image.read_bytes())
    assert caught.value.get_http_status_code() == 500


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_loading_a_model_unpickles_nothing(folder, tmp_path):
    assert {path.name for path in folder.iterdir()} == {*FILES, "model.pt", "model.json"}
    hostile, mark = tmp_path / "hostile", tmp_path / "mark"
    shutil.copytree(folder, hostile)
    with zipfile.ZipFile(hostile / "model.pt", "w") as file:  # as torch.save lays it out
        file.writestr("model/data.pkl", pickle.dumps(Hostile(mark), protocol=2))
        file.writestr("model/version", "3\n")
    values = json.loads((hostile / "model.json").read_text())
    values["weights_sha256"] = sha256(hostile / "model.pt")
    (hostile / "model.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="does not hold weights"):
        mlflow.pyfunc.load_model(str(hostile))
    assert not mark.exists()
    torch.load(hostile / "model.pt", weights_only=False)
    assert mark.exists(), "it is hostile"


def test_an_invalid_setting_is_refused_when_a_model_is_loaded(folder):
    with pytest.raises(ValueError, match="megapixels: got 0, wanted a number above 0"):
        mlflow.pyfunc.load_model(str(folder), model_config={"megapixels": 0})


# Over HTTP ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory, folder):
    with serve(tmp_path_factory.mktemp("project"), folder) as address:
        yield address


@contextlib.contextmanager
def serve(root, folder):
    """Register a model as the evaluate stage does, and serve it as the README says."""
    (root / "dvc.yaml").touch()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        with tracking.start_run(root, "training") as run:
            run.log_model(folder, 1)
            run.register_champion("valley", 0.5, "a")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "models",
            "serve",
            "-m",
            "models:/valley@champion",
            "--env-manager",
            "local",
            "--port",
            str(port),
        ],
        cwd=root,
        start_new_session=True,
        env=os.environ
        | {
            "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
            "PYTHONPATH": str(ROOT / "src"),
            "SERVING_MODEL_CONFIG": json.dumps(LIMIT),
            "DO_NOT_TRACK": "true",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
    )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/ping", server)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until_up(address, server, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.3)
    raise TimeoutError(f"the server does not answer, its exit code is {server.poll()}")


def post(address, body, kind="application/json"):
    """Send a request; give the code of the answer and what it says."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.slow
def test_mlflow_serves_the_champion_over_http(address, folder, image, tmp_path):
    text = encoded(image)
    classes, confidence = predicted(folder, image, tmp_path / "out")
    bodies = [
        {"dataframe_split": {"columns": ["image"], "data": [[text]]}},
        {"dataframe_records": [{"image": text}], "params": {"confidence": True}},
        {"instances": [{"image": text}]},
        {"inputs": {"image": [text]}},
    ]
    for body in bodies:
        code, said = post(address, body)
        assert code == 200, said
        (answer,) = said["predictions"]
        assert base64.b64decode(answer["classes"]) == classes
        assert set(answer["fractions"]) == set(CLASSES.names)
        if "params" in body:
            assert base64.b64decode(answer["confidence"]) == confidence


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_mlflow_serves_pixel_classifiers_over_http(name, image, tmp_path):
    heads = ("logistic_regression", "extra_trees") if name == MEAN else (name,)
    classifier = fit(*heads)
    network = network_settings(name, "none")
    checkpoint = Checkpoint(network, TILE_SET, {"kept_epoch": 1}, classifier=classifier.settings)
    segmenter = PixelSegmenter(classifier, TILE_SET.mean, TILE_SET.std)
    folder = tmp_path / "registered"
    folder.mkdir()
    save_checkpoint(folder, checkpoint, segmenter.state_dict())
    write_mlmodel(folder, "0" * 32, "model")
    classes, confidence = predicted(folder, image, tmp_path / "out")
    root = tmp_path / "project"
    root.mkdir()
    with serve(root, folder) as address:
        body = {"instances": [{"image": encoded(image)}], "params": {"confidence": True}}
        code, said = post(address, body)
    assert code == 200, said
    (answer,) = said["predictions"]
    assert base64.b64decode(answer["classes"]) == classes
    assert base64.b64decode(answer["confidence"]) == confidence


@pytest.mark.slow
def test_a_wrong_request_over_http_is_answered_by_4xx_and_a_reason(address, tmp_path):
    def row(value, column="image"):
        return {"dataframe_split": {"columns": [column], "data": [[value]]}}

    large = encoded(tiff(tmp_path, 3, 200, 200))
    one_band = encoded(tiff(tmp_path, 1, 64, 64))
    for body, wanted in (
        (b"no JSON", "valid JSON"),
        ({"image": "AAAA"}, "exactly one of the input fields"),
        ({"dataframe_split": {"columns": ["image"], "data": []}}, "column 'image' is empty"),
        (row("AAAA", "picture"), "missing inputs ['image']"),
        (row(7), "Failed to convert column image"),
        (row(None), "Failed to convert column image"),
        (row("no base64!"), "image 1 is not an image"),
        ({"inputs": {"image": ["no base64!"]}}, "image 1 is not an image"),
        (row(base64.b64encode(b"no image").decode()), "image 1 is not an image"),
        (row(large), "wanted at most 0.02 megapixels"),
        (row(one_band), "image 1 has 1 band(s), but bands 1,2,3 are to be read"),
        ({**row(one_band), "params": {"bands": 3}}, "bands"),
    ):
        code, said = post(address, body)
        assert code == 400, (body, said)
        assert wanted in json.loads(said)["message"], said
        assert "Traceback" not in said
    assert post(address, b"II*", "image/tiff")[0] == 415
