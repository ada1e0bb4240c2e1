"""A network as an MLflow model: what its MLmodel file says, so that MLflow can load and serve it.

Beside model.pt and model.json lie two small texts, and nothing that Python would execute or
unpickle: MLmodel names a module of the installed pointcover, which reads the weights as weights.
MLflow's own `save_model` took 1.7 s for what takes 0.003 s here, and adds environments in which
there is no pointcover.
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
"""The module whose `_load_pyfunc` MLflow calls."""

IMAGE: Final = "image"
"""The column of what is to be mapped."""

SETTINGS: Final = {"megapixels": 4.2, "device": "auto", "precision": "auto"}
"""What whoever loads or serves a model may say: how large the images of one request may be, all
together (4.2 is 2048 × 2048 px), where the network runs and in what it computes."""

REQUIREMENTS: Final = (
    "mlflow",
    "torch",
    "segmentation-models-pytorch",
    "timm",
    "lightning-fabric",
    "rasterio",
    "numpy",
)
"""Of what the versions are written down, which MLflow compares when a model is loaded. Not of
pointcover, which is on no index: whatever bears its name there is somebody else's."""


def write_mlmodel(folder: Path, run_id: str, artifact_path: str) -> None:
    """Write FILES into a folder: they go beside a model's model.pt and model.json.

    Args:
        folder: exists.
        run_id: of the run whose artifact the model is.
        artifact_path: where among them.
    """
    model = Model(run_id=run_id, artifact_path=artifact_path, signature=_signature())
    add_to_model(model, LOADER, model_config=dict(SETTINGS))  # type: ignore[no-untyped-call]
    model.save(str(folder / "MLmodel"))
    lines = (f"{name}=={version(name)}\n" for name in REQUIREMENTS)
    (folder / "requirements.txt").write_text("".join(lines), encoding="utf-8")


def _signature() -> ModelSignature:
    """Return what a request holds and what the answer, one row an image."""
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, IMAGE)]),
        outputs=Schema(
            [
                ColSpec(DataType.binary, "classes"),
                ColSpec(Map(DataType.double), "shares"),
                ColSpec(Map(DataType.double), "areas_m2"),
                ColSpec(Array(DataType.string), "remarks"),
                ColSpec(DataType.binary, "confidence", required=False),
            ]
        ),
        # As the options of `pointcover predict`; None is as in training.
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
