"""Write the MLmodel file of a network, so that MLflow can load and serve it.

Two small text files are written beside model.pt and model.json. Nothing in them is executed or
unpickled: MLmodel names a module of the installed pointcover, which loads the weights. MLflow's own
`save_model` takes 1.7 s instead of 0.003 s, and adds environments without pointcover.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Final

from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import add_to_model
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, DataType, Map

FILES: Final = ("MLmodel", "requirements.txt")

LOADER: Final = "pointcover.serving"
"""Module with the function `_load_pyfunc` that MLflow calls."""

IMAGE: Final = "image"
"""Column of the images to map."""

SETTINGS: Final = {"megapixels": 4.2, "device": "auto", "precision": "auto"}
"""Defaults of the settings for loading or serving a model: maximum total size of the images of one
request (4.2 is 2048 × 2048 px), device, and precision."""

REQUIREMENTS: Final = (
    "mlflow",
    "torch",
    "segmentation-models-pytorch",
    "timm",
    "lightning-fabric",
    "rasterio",
    "numpy",
)
"""Packages with versions in requirements.txt, which MLflow compares when it loads a model.
pointcover is not among them, since it is not published in a package index."""


def write_mlmodel(
    folder: Path, run_id: str, artifact_path: str, model_id: str | None = None
) -> None:
    """Write FILES, which belong beside a model's model.pt and model.json.

    Args:
        folder: an existing folder.
        run_id: of the run that has the model as artifact.
        artifact_path: path of the model among the run's artifacts.
        model_id: of the logged model, if it is one.
    """
    model = Model(artifact_path, run_id, signature=_signature(), model_id=model_id)
    add_to_model(model, LOADER, model_config=dict(SETTINGS))  # type: ignore[no-untyped-call]
    model.save(str(folder / "MLmodel"))
    lines = (f"{name}=={version(name)}\n" for name in REQUIREMENTS)
    (folder / "requirements.txt").write_text("".join(lines), encoding="utf-8")


def _signature() -> ModelSignature:
    """Return the columns of requests and answers, with one row for each image."""
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, IMAGE)]),
        outputs=Schema(
            [
                ColSpec(DataType.binary, "classes"),
                ColSpec(Map(DataType.double), "fractions"),
                ColSpec(Map(DataType.double), "areas_m2"),
                ColSpec(Array(DataType.string), "remarks"),
                ColSpec(DataType.binary, "confidence", required=False),
            ]
        ),
        # The options of `pointcover predict`; None is the value of the training images.
        params=ParamSchema(
            [
                ParamSpec("bands", DataType.string, None),
                ParamSpec("value_range", DataType.string, None),
                ParamSpec("gsd_m", DataType.double, None),
                ParamSpec("resample", DataType.boolean, False),
                ParamSpec("confidence", DataType.boolean, False),
            ]
        ),
    )
