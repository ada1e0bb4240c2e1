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

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
CHAIN = ("download", "tile", "annotate", "train", "evaluate")
STAGES = (*CHAIN, "suggest")
"""The last is one for each of `suggest.measures`, of which params.yaml names none."""

LAYERS = (
    # The ground, which knows nothing of the project above it
    {
        "labels",
        "params",
        "publishing",
        "raster",
        "grids",
        "outlines",
        "cog",
        "tracking",
        "mlflow_store",
        "mlflow_model",
        "fetching",
        "recording",
        "devices",
        "downloads",
        "archives",
        "processes",
        "parallel",
        "experiments",
    },
    # The concepts
    {
        "datasets.card",
        "datasets.inventory",
        "datasets.acquiring",
        "datasets.folders",
        "datasets.synthetic",
        "datasets.synthetic.sheet",
        "datasets.synthetic.fields",
        "datasets.synthetic.roads",
        "datasets.synthetic.water",
        "datasets.synthetic.houses",
        "datasets.synthetic.woodland",
        "datasets.synthetic.light",
        "tiles",
        "splits",
        "cutting",
        "annotation_report",
        "distances",
        "annotations",
        "annotations.annotator",
        "annotations.budgets",
        "annotations.drawing",
        "annotations.noise",
        "annotations.scribbles",
        "annotations.spacing",
        "growing",
        "growing.contract",
        "growing.coarse",
        "growing.geodesic",
        "growing.linking",
        "growing.nearest",
        "growing.superpixels",
        "growing.walking",
        "augmentation",
        "strong_colours",
        "metrics",
        "boundaries",
        "calibration",
        "intervals",
        "scoring",
        "tile_confusions",
        "models",
        "models.scratch",
        "models.weights",
        "losses",
        "losses.consistency",
        "losses.gated_crf",
        "priors",
        "pseudo_labels",
        "figures",
        "optimisation",
        "neighbours",
        "mean_field",
        "qgis",
        "vectors.features",
        "vectors.placing",
        "vectors.reading",
        "vectors.writing",
        "study.plan",
        "study.records",
        "study.statistics",
        "study.summary",
        "study.charts",
        "vectors.polygons",
        "windows",
        "orthophotos",
    },
    # What works on them
    {
        "models.checkpoint",
        "models.onnx_files",
        "models.exporting",
        "models.quantising",
        "annotating",
        "loading",
        "label_shares",
        "learner",
        "training",
        "inference",
        "stage",
        "report",
        "resumption",
        "self_training",
        "previews",
        "tallies",
        "evaluation",
        "panels",
        "syncing",
        "study.running",
        "study.report",
        "study.conducting",
        "cli",
        "__main__",
        "models.references",
        "streaming",
        "map_journal",
        "map_files",
        "mapping",
        "suggesting",
        "vectors.suggestions",
        "next_clicks",
        "answering",
        "serving",
    },
)

DOORS = {
    "rasterio": {"raster", "grids", "outlines", "cog"},
    "mlflow": {"tracking", "mlflow_store", "mlflow_model", "fetching", "serving"},
    "segmentation_models_pytorch": {"models", "models.weights"},
    "timm": {"models", "models.weights"},
    "albumentations": {"augmentation"},
    "lightning_fabric": {"devices", "learner", "training", "inference"},
    "matplotlib": {"figures", "study.charts"},
    "skimage": {"annotations.scribbles", "annotations.spacing", "growing.superpixels"},
    "requests": {"downloads"},
    "huggingface_hub": {"models.weights"},
    "safetensors": {"models.weights"},
    "onnx": {"models.onnx_files", "models.quantising"},
    "onnxruntime": {"models.onnx_files", "models.exporting", "models.quantising"},
    "openvino": {"models.onnx_files"},
    "onnxscript": {"models.exporting"},
    "pydantic": {"params", "datasets.card", "study.plan"},
    "yaml": {"params", "study.report"},
    "dvc": {"experiments"},
    "jinja2": {"study.report"},
    "geopandas": {"vectors.suggestions", "vectors.polygons", "vectors.reading", "vectors.writing"},
    "pyogrio": {"vectors.reading", "vectors.writing"},
    "pyproj": {
        "vectors.suggestions",
        "vectors.features",
        "vectors.polygons",
        "vectors.reading",
        "vectors.writing",
    },
    "shapely": {
        "vectors.suggestions",
        "vectors.features",
        "vectors.placing",
        "vectors.polygons",
        "vectors.reading",
        "vectors.writing",
    },
    "typer": {"cli"},
    "joblib": {"parallel", "devices"},
    "dask": {"parallel"},
    "threadpoolctl": {"parallel"},
}

MACHINE = "machine"
"""The section of params.yaml that no stage depends on: it says where work is done, and by how many,
never what comes of it. tests/test_parallel.py holds it to that, byte by byte. As a dependency it
would run everything again on every new machine."""

DRAW_ONLY = {"tracking", "mlflow_store", "recording", "mlflow_model"}
"""Modules whose change cannot change what a stage writes for DVC: they record, they do not decide.
They are left out of `deps`, so that a new tag in MLflow does not train every model again."""


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC / "pointcover").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in (SRC / "pointcover").rglob("*.py")}


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file names in an import, wherever in it that stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name)


def own_imports(path: Path) -> set[str]:
    names = {name.removeprefix("pointcover.") for name in imports(path)}
    return {name for name in names if name and name in MODULES}


def closure(path: Path) -> set[str]:
    """The modules that a file needs, and those that they need."""
    needed, todo = set(), own_imports(path)
    while todo:
        name = todo.pop()
        needed.add(name)
        todo |= own_imports(MODULES[name]) - needed
    return needed


def test_every_module_has_a_layer_and_imports_point_down_or_sideways():
    placed = [name for layer in LAYERS for name in layer]
    packages = {"", "datasets", "vectors", "study"}
    assert sorted(placed) == sorted(set(MODULES) - packages)
    for height, layer in enumerate(LAYERS):
        above = set().union(*LAYERS[height + 1 :])
        for name in layer:
            assert not own_imports(MODULES[name]) & above, f"{name} imports what lies above it"


def test_no_modules_import_each_other_in_a_circle():
    for name, path in MODULES.items():
        assert name not in closure(path), f"{name} needs itself"


@pytest.mark.parametrize("library", DOORS)
def test_a_heavy_library_is_imported_behind_its_door_alone(library):
    files = {**MODULES, **{f"stages.{path.stem}": path for path in (ROOT / "stages").glob("*.py")}}
    users = {
        name
        for name, path in files.items()
        if any(found.split(".")[0] == library for found in imports(path))
    }
    assert users <= DOORS[library]
    assert users, f"no module uses {library}: remove it from pyproject.toml"


def test_names_that_say_nothing_are_not_used():
    assert not {"utils", "helpers", "common", "misc"} & {path.stem for path in SRC.rglob("*.py")}


def test_modules_do_not_print():
    for path in MODULES.values():
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
    assert yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))["suggest"]["measures"] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_replaces_the_shell_that_dvc_starts_it_in_and_runs_the_code_beside_it(stage):
    item = " ${item}" if stage == "suggest" else ""
    assert pipeline()[stage]["cmd"] == f"exec env PYTHONPATH=src python stages/{stage}.py{item}"


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


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_every_module_that_a_stage_needs_and_no_other(stage):
    script = ROOT / "stages" / f"{stage}.py"
    needed = {str(MODULES[name].relative_to(ROOT)) for name in closure(script) - DRAW_ONLY}
    if stage == "download":
        needed |= {"src/pointcover/datasets"}  # the cards lie beside the modules
        needed = {path for path in needed if not path.startswith("src/pointcover/datasets/")}
    assert code_deps(stage) == needed | {f"stages/{stage}.py"}


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_code_alone_that_dvc_compares_too():
    """What the stage has imported when it names its state is what `deps` name."""
    code = "import runpy; runpy.run_path('stages/train.py'); "
    code += "from pointcover.resumption import loaded_code; print(*loaded_code().values())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(SRC)},
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = {str(Path(path).relative_to(ROOT)) for path in done.stdout.split()}
    marks = {"src/pointcover/__init__.py", "src/pointcover/datasets/__init__.py"}
    assert loaded - marks == code_deps("train") - {"stages/train.py"}


def read_params(stage):
    """Give what a stage reads of its params, as deep as it says it: `annotate.grower`."""
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
