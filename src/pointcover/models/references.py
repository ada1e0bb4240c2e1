"""References to models, as commands take them: told apart and checked without importing torch."""

import re
from pathlib import Path
from typing import Final

from pointcover.models.fetch import check_store
from pointcover.networks.model_files import check_model_files

RUN_ID: Final = re.compile(r"[0-9a-f]{32}")


def is_in_mlflow(reference: str) -> bool:
    """Return whether a reference is that of an MLflow run or registered model, not a path."""
    in_mlflow = reference.startswith(("runs:/", "models:/"))
    return in_mlflow or bool(RUN_ID.fullmatch(reference) and not Path(reference).exists())


def path_of(reference: str) -> Path:
    """Return the ONNX file or the folder of a model that is not in MLflow.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(reference)
    if path.suffix == ".onnx" and path.is_file():
        return path
    if path.name in ("model.pt", "model.json") and not path.is_dir():
        path = path.parent
    if not path.is_dir():
        raise FileNotFoundError(
            f"{reference} is not a model: wanted a folder with model.pt and model.json (`dvc "
            f"repro` writes models/), an ONNX file of `pointcover export`, an MLflow run "
            f"(runs:/ID) or a registered model (models:/NAME@champion)"
        )
    return path


def check_reference(reference: str, root: Path) -> None:
    """Check that a model exists, as far as this takes no time.

    Args:
        reference: see `load_model`.
        root: of the project, whose MLflow store is used.

    Raises:
        FileNotFoundError: there is no such file or store.
    """
    if is_in_mlflow(reference):
        check_store(root, reference)
        return
    path = path_of(reference)
    if path.is_dir():
        check_model_files(path)
