"""The structure holds: layers, doors to libraries, and dvc.yaml's deps and params."""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from pointcover.runtime.code_closure import (
    code_files,
    imported_names,
    modules,
    own_imports,
)

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PATHS = {"PYTHONPATH": str(SRC)}
CHAIN = ("download", "tile", "annotate", "train", "evaluate")
STAGES = (*CHAIN, "suggest")
"""The last is one for each of `suggest.acquisitions`, of which params.yaml names none."""

LAYERS = (
    {"text"},
    {"labels", "validation", "yaml_files"},
    {"runtime"},
    {"raster", "metrics", "figures"},
    {"datasets", "tileset", "tracking", "features"},
    {"tiling", "vectors", "networks"},
    {"prediction"},
    {"annotation", "training", "evaluation", "models"},
    {"maps", "image_labels"},
    {"active", "assessment"},
    {"config"},
    {"study", "serving", "labelling", "project", "label_errors"},
    {"api"},
    {"cli"},
    {"__main__"},
)
"""Packages and modules of src/pointcover from the ground up: imports point down."""

ADAPTERS = {
    "rasterio": {"raster", "vectors", "maps", "assessment"},
    "mlflow": {"tracking", "models", "serving"},
    "segmentation_models_pytorch": {"networks"},
    "timm": {"networks"},
    "albumentations": {"training"},
    "lightning_fabric": {"runtime", "training", "prediction"},
    "matplotlib": {"figures", "study", "assessment"},
    "skimage": {"annotation"},
    "requests": {"datasets"},
    "huggingface_hub": {"networks"},
    "safetensors": {"features", "networks"},
    "onnx": {"models"},
    "onnxruntime": {"models"},
    "openvino": {"models"},
    "onnxscript": {"models"},
    "dvc": {"tracking"},
    "jinja2": {"study", "assessment"},
    "optuna": {"study"},
    "geopandas": {"vectors", "maps", "active", "assessment", "labelling", "label_errors"},
    "pyogrio": {"vectors", "assessment", "label_errors"},
    "pyproj": {"vectors", "maps", "active", "assessment", "labelling", "label_errors"},
    "shapely": {"vectors", "maps", "active", "assessment", "labelling", "label_errors"},
    "typer": {"cli"},
    "joblib": {"runtime"},
    "dask": {"runtime"},
    "threadpoolctl": {"runtime"},
    "starlette": {"labelling"},
    "uvicorn": {"labelling"},
}
"""The packages that may import a heavy library."""

MACHINE = "machine"
"""The section of params.yaml that no stage depends on: it says where work is done, and by how many,
never what comes of it. tests/test_parallel.py holds it to that, byte by byte. As a dependency it
would run everything again on every new machine."""


def place_of(name: str) -> str:
    """Return the package or module at the root of src/pointcover that a module is in."""
    return name.split(".")[1]


def own_modules() -> dict[str, Path]:
    return {name: path for name, path in modules().items() if name != "pointcover"}


def test_imports_point_down():
    placed = [place for layer in LAYERS for place in layer]
    assert sorted(placed) == sorted({place_of(name) for name in own_modules()})
    level = {place: height for height, layer in enumerate(LAYERS) for place in layer}
    for name, path in own_modules().items():
        for other in own_imports(path):
            ours, theirs = place_of(name), place_of(other)
            assert ours == theirs or level[theirs] < level[ours], f"{name} imports {other}"


def test_few_modules_lie_at_the_root():
    assert len(list((SRC / "pointcover").glob("*.py"))) <= 8


def test_no_modules_import_each_other_in_a_circle():
    for name, path in own_modules().items():
        reached, todo = set(), own_imports(path)
        while todo:
            other = todo.pop()
            reached.add(other)
            todo |= own_imports(own_modules()[other]) - reached
        assert name not in reached, f"{name} imports itself through others"


@pytest.mark.parametrize("library", ADAPTERS)
def test_a_heavy_library_is_imported_by_few_packages(library):
    users = {
        place_of(name)
        for name, path in own_modules().items()
        if any(found.split(".")[0] == library for found in imported_names(path))
    }
    assert users == ADAPTERS[library]


def test_names_that_say_nothing_are_not_used():
    assert not {"utils", "helpers", "common", "misc"} & {path.stem for path in SRC.rglob("*.py")}


def test_modules_do_not_print():
    for path in modules().values():
        calls = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
        assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), path


# dvc.yaml ----------------------------------------------------------------------------------------


@cache
def pipeline() -> dict:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def code_deps(stage: str) -> set[str]:
    return {dep for dep in pipeline()[stage]["deps"] if dep.startswith(("src/", "stages/"))}


def test_dvc_yaml_has_the_five_stages_and_a_round_where_asked_for_each_with_a_description():
    assert tuple(pipeline()) == STAGES
    assert all(stage["desc"] for stage in pipeline().values())
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert [name for name in stages if "foreach" in stages[name]] == ["suggest"]
    assert (
        yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))["suggest"]["acquisitions"] == []
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_replaces_the_shell_that_dvc_starts_it_in_and_runs_the_code_beside_it(stage):
    item = " ${item}" if stage == "suggest" else ""
    assert pipeline()[stage]["cmd"] == f"exec env PYTHONPATH=src python stages/{stage}.py{item}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("src/pointcover/datasets/dubai.yaml", True),
        ("src/pointcover/datasets/__pycache__/card.cpython-311.pyc", False),
        ("sources/a.png.aux.xml", True),  # may say where an image lies
        ("data/tiles/images/train/a.tif.aux.xml", False),  # QGIS leaves it, with statistics
    ],
)
def test_what_lies_beside_files_changes_no_stage(path, counts):
    command = [sys.executable, "-m", "dvc", "check-ignore", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == ((1, "") if counts else (0, path))


def test_dvc_yaml_names_the_code_that_each_stage_imports():
    command = [sys.executable, "tools/deps.py", "--check"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | PATHS
    )
    assert done.returncode == 0, done.stderr


def test_a_killed_training_resumes_with_the_code_alone_that_dvc_compares_too():
    for path in code_files(ROOT / "stages" / "train.py").values():
        name = path.relative_to(ROOT).as_posix()
        assert any(f"{name}/".startswith(f"{dep}/") for dep in code_deps("train")), name


def read_params(stage):
    """Return what a stage reads of its params, as deep as it says it: `annotate.propagator`."""
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    inner = {node.value for node in nodes}
    read = {ast.unparse(node) for node in nodes if node not in inner}
    return {name.removeprefix("params.") for name in read if name.startswith("params.")}


@pytest.mark.parametrize("stage", STAGES)
def test_params_name_what_a_stage_reads_and_nothing_else(stage):
    recorded = {"dataset"} if stage in ("train", "evaluate") else set()  # a tag, no output
    listed = set(pipeline()[stage]["params"]) | recorded | {MACHINE}
    named = {
        one: {name for name in listed if f"{one}.".startswith(f"{name}.")}
        for one in read_params(stage)
    }
    assert not [one for one, names in named.items() if not names]
    assert listed - {MACHINE} == set().union(*named.values()) - {MACHINE}


def test_no_stage_runs_again_on_another_machine():
    listed = [name for stage in pipeline().values() for name in stage["params"]]
    assert not [name for name in listed if name.split(".")[0] == MACHINE]
    assert MACHINE in yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def test_train_depends_on_no_dense_mask_and_on_nothing_of_the_test_split():
    deps = [dep for dep in pipeline()["train"]["deps"] if dep.startswith("data/")]
    images = ["data/tiles/images/train", "data/tiles/images/val"]
    assert deps == [*images, "data/tiles/tiles.json", "data/sparse"]
    text = (ROOT / "stages" / "train.py").read_text(encoding="utf-8")
    assert "data/tiles/masks" not in text
    assert "data/tiles/index.csv" not in text


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_opens_no_data_that_its_deps_do_not_name(stage):
    text = (ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8")
    named = set(re.findall(r'Path\("((?:data|models)/?[^"]*)"\)', text))
    entry = pipeline()[stage]
    known = [
        path if isinstance(path, str) else next(iter(path))
        for key in ("deps", "outs", "metrics", "plots")
        for path in entry.get(key, [])
    ]
    for path in named:
        assert any(
            path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")
            for other in known
        ), f"stages/{stage}.py names {path}"
