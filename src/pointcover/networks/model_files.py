"""The files of a model: model.pt with its weights, and model.json, which describes it."""

from pathlib import Path


def check_model_files(folder: Path) -> None:
    """Check that a folder has the files of a model. Neither is read, and torch is not imported.

    Raises:
        FileNotFoundError: model.pt or model.json is missing.
    """
    for name in ("model.pt", "model.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} does not exist: run `dvc repro train`, or restore the last model "
                f"with `dvc checkout -f`"
            )
