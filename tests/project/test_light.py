"""`pointcover[maps]` maps with ONNX files, without torch; what it lacks is one message."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import rasterio
from onnx import helper, numpy_helper

from pointcover.maps.map_files import SUFFIXES
from pointcover.models.onnx_model import describe
from pointcover.networks.description import Checkpoint
from tests.imagery import ROOT, draw_image, write_raster
from tests.map_models import CLASSES, TILE_SET
from tests.project.building import build_wheel, copy_tree
from tests.project.light import ENGINES_ALONE, Environment
from tests.train_settings import network_settings

pytestmark = pytest.mark.slow

HEAVY = (
    *("torch", "torchvision", "timm", "segmentation_models_pytorch", "albumentations", "cv2"),
    *("sklearn", "skimage", "scipy", "numba", "mlflow", "dvc", "geopandas", "shapely", "pyogrio"),
    *("pyproj", "matplotlib", "yaml", "requests", "onnx", "openvino", "lightning_fabric"),
)


def write_model(path: Path) -> None:
    """Write one convolution as `pointcover export` writes models."""
    weights = np.random.default_rng(0).normal(0, 4, (len(CLASSES), 3, 3, 3)).astype(np.float32)
    sizes = [["batch", channels, "height", "width"] for channels in (3, len(CLASSES))]
    names = ("image", "probabilities")
    given, found = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)
        for name, size in zip(names, sizes, strict=True)
    )
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["logits"], pads=[1, 1, 1, 1]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "model", [given], [found], [numpy_helper.from_array(weights, "weights")]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    settings = network_settings("unet", "resnet18", 0.5)
    checkpoint = Checkpoint(settings, TILE_SET, {"epoch": 3}, (0.1, 0.2, 0.3, 0.4))
    for name, value in describe(checkpoint).items():
        proto.metadata_props.add(key=name, value=value)
    onnx.save(proto, path)


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    folder = tmp_path_factory.mktemp("light")
    copy_tree(folder / "tree")
    return Environment(folder / "environment", build_wheel(folder / "tree", folder), "maps")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a model, an image, and the map of it in this environment."""
    folder = tmp_path_factory.mktemp("work")
    write_model(folder / "model.onnx")
    transform = rasterio.transform.from_origin(500_000, 600_000, 0.25, 0.25)
    write_raster(folder / "a.tif", draw_image(300, 340), crs="EPSG:2180", transform=transform)
    (folder / "models").mkdir()
    for name in ("model.pt", "model.json"):
        (folder / "models" / name).touch()
    run = "from pointcover.cli.app import app; app()"
    for out, code in (("full", run), ("full_onnxruntime", f"{ENGINES_ALONE}; {run}")):
        subprocess.run(
            [sys.executable, "-c", code, *PREDICT, out, *OPTIONS],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
    return folder


PREDICT = ("predict", "model.onnx", "a.tif", "--out")
OPTIONS = ("--window-px", "128", "--precision", "fp32", "--entropy", "--probabilities")


def read(folder: Path, what: str) -> np.ndarray:
    with rasterio.open(folder / f"a_{what}.tif") as file:
        return file.read()


def test_nothing_heavy_is_installed_and_all_is_small(light, work):
    code = "import sys, importlib.util as u; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    assert light.run("-c", code, *HEAVY, cwd=work) == "[]\n"
    assert light.size_mb() < 300
    assert {"numpy", "rasterio", "onnxruntime", "typer"} <= set(light.packages)


def test_a_map_is_that_of_the_whole_installation(light, work):
    said = light.run("-m", "pointcover", *PREDICT, "light", *OPTIONS, cwd=work)
    assert "note: model.onnx runs on onnxruntime" in said
    assert "without matplotlib no previews are drawn: `pip install 'pointcover[preview]'`" in said
    ours, theirs = (
        {path.name for path in (work / name).iterdir()} for name in ("light", "full_onnxruntime")
    )
    assert theirs - ours == {"a_preview.png"}
    assert ours < {f"a{suffix}" for suffix in SUFFIXES}
    for what in ("classes", "confidence", "entropy", "probabilities"):
        assert np.array_equal(read(work / "light", what), read(work / "full_onnxruntime", what))
    for name in ("a_areas.csv", "a_classes.qml"):
        texts = [(work / folder / name).read_text() for folder in ("light", "full_onnxruntime")]
        assert texts[0] == texts[1]
    # OpenVINO rounds otherwise.
    same = read(work / "light", "classes") == read(work / "full", "classes")
    assert same.mean() > 0.999
    assert len(np.unique(read(work / "light", "classes"))) > 1
    again = light.run("-m", "pointcover", *PREDICT, "light", *OPTIONS, cwd=work)
    assert f"{Path('light', 'a_classes.tif')} exists already" in again


def test_an_interrupted_map_is_resumed(light, work):
    code = """
import pointcover

def stop(megapixels):
    if megapixels:
        raise SystemExit

model = pointcover.open_model("model.onnx", precision="fp32")
layers = {"entropy": True, "probabilities": True}
model.map("a.tif", "resumed", window_px=128, layers=layers, progress=stop)
"""
    light.run("-c", code, cwd=work)
    folder = work / "resumed" / "a.map.partial"
    begun = sorted(folder.glob("strip_*.tif"))
    assert 1 <= len(begun) < 3
    before = begun[0].stat().st_mtime_ns
    code = """
import sys
from pathlib import Path
from pointcover.maps.journal import MapJournal

remove, first = MapJournal.remove, Path(sys.argv.pop(1))

def check(journal):
    print("first strip", first.stat().st_mtime_ns)
    remove(journal)

MapJournal.remove = check
from pointcover.cli.app import app

app()
"""
    said = light.run("-c", code, str(begun[0]), *PREDICT, "resumed", *OPTIONS, cwd=work)
    assert f"first strip {before}\n" in said
    assert not folder.exists()
    for what in ("classes", "confidence", "entropy", "probabilities"):
        assert np.array_equal(read(work / "resumed", what), read(work / "full_onnxruntime", what))


def test_options_without_torch_work(light, work):
    priors = "land=0.4,water=0.3,road=0.2,wood & heath=0.1"
    more = ("--tta", "--blend", "--priors", priors, "--window-px", "128")
    light.run("-m", "pointcover", *PREDICT, "more", *more, cwd=work)
    found = read(work / "more", "classes")
    assert 0 < (found != read(work / "full", "classes")).mean() < 0.9


TRAIN = "run `pip install 'pointcover[train]'`"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([*PREDICT, "crf", "--crf", "3"], ("'torch'", TRAIN)),
        ([*PREDICT, "areas", "--polygons"], ("polygons need geopandas", "[polygons]'`")),
        (["predict", "models", "a.tif", "--out", "no"], ("'torch'", TRAIN)),
        ([*PREDICT, "gpu", "--device", "cuda"], ("got cuda, but ONNX files run on the CPU",)),
        ([*PREDICT, "bf16", "--precision", "bf16"], ("onnxruntime", "does not compute in bf16")),
        (["suggest", "model.onnx", "a.tif", "--out", "n.gpkg"], (TRAIN,)),
        (["sample", "full/a_classes.tif", "--out", "s.gpkg", "--points", "9"], (TRAIN,)),
        (["label", "labels", "a.tif"], ("'starlette'", "`pip install 'pointcover[label]'`")),
        (["recipe"], ("'yaml'", TRAIN)),
        (["init", "project"], ("'yaml'", TRAIN)),
        (["export", "models", "--out", "x.onnx"], ("'torch'", TRAIN)),
    ],
)
def test_what_is_not_installed_is_one_message(light, work, command, said):
    before = {path.name for path in work.iterdir()}
    output = light.run("-m", "pointcover", *command, cwd=work, fails=True)
    (message,) = (line for line in output.splitlines() if line and not line.startswith("note: "))
    assert message.startswith(f"pointcover {command[0]}: ")
    assert all(part in message for part in said)
    assert {path.name for path in work.iterdir()} <= before | {"labels"}


def test_python_says_what_to_install(light, work):
    code = """
import pointcover

for call in (
    lambda: pointcover.Project,
    lambda: pointcover.open_model("models"),
    lambda: pointcover.open_model("model.onnx").suggest("a.tif", "n.gpkg"),
    lambda: pointcover.open_model("model.onnx").map("a.tif", "o", crf={"iterations": 3}),
):
    try:
        call()
    except ModuleNotFoundError as error:
        print(error)
"""
    lines = light.run("-c", code, cwd=work).splitlines()
    wants = ("pointcover.Project", "this model", "suggest", "this setting")
    assert len(lines) == len(wants)
    for line, what in zip(lines, wants, strict=True):
        assert line.startswith(f"{what} needs the package '")
        assert "run `pip install 'pointcover[train]'`" in line


def test_commands_start_fast(light, work):
    light.run("-m", "pointcover", "--help", cwd=work)  # writes bytecode
    assert light.measure("-m", "pointcover", "--help", cwd=work)[1] < 0.7
    assert light.measure("-m", "pointcover", *PREDICT, "timed", cwd=work)[1] < 2
