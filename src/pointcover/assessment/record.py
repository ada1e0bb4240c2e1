"""Recording an assessment in MLflow, in the run of the model that made the map."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pointcover.assessment.assess import Assessment
from pointcover.assessment.report import HTML, VALUES
from pointcover.assessment.tables import M2_PER_HA

CLASSES_SUFFIX: Final = "_classes.tif"
REFUSED: Final = re.compile(r"[^\w\-./: ]")
"""Signs that MLflow refuses in the name of a metric."""

FOLDER: Final = "assessment"
"""Where among a run's artifacts the reports lie, in a folder for each assessment."""


def model_of(maps: Sequence[Path]) -> str | None:
    """Return the SHA-256 of the one model that made all maps, as the JSON beside each says.

    None where a map has no such JSON, where several models made it, or where maps differ in it.
    """
    found = {_model_of(path) for path in maps}
    return found.pop() if len(found) == 1 else None


def _model_of(path: Path) -> str | None:
    if not path.name.endswith(CLASSES_SUFFIX):
        return None
    beside = path.with_name(path.name.removesuffix(CLASSES_SUFFIX) + ".json")
    try:
        models = json.loads(beside.read_text(encoding="utf-8"))["models"]
        return str(models[0]["sha256"]) if len(models) == 1 else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def record(root: Path, found: Assessment, folder: Path, name: str) -> str | None:
    """Log the numbers and the report in the run that trained the maps' model.

    Args:
        root: the project's root, whose MLflow store is meant.
        found: the assessment.
        folder: its report.
        name: of the assessment, by which several of one model are told apart.

    Returns:
        the id of the run; None where the maps do not say which model made them, or the store has no
        run of it.

    Raises:
        ValueError: the store cannot be used.
        OSError: the store cannot be read or written.
    """
    from pointcover.tracking.runs import reopen_model_run  # a second of imports

    model = model_of(found.maps)
    if model is None:
        return None
    run = reopen_model_run(root, model)
    if run is None:
        return None
    with run:
        run.log_metrics(metrics_of(found, name))
        for file in (HTML, VALUES):
            run.log_file(folder / file, f"{FOLDER}/{_allowed(name)}")
    return run.id


def metrics_of(found: Assessment, assessment: str) -> dict[str, float | None]:
    """Name the numbers of an assessment, each beginning with its name."""
    estimates = found.estimates
    metrics = {
        "overall_accuracy": estimates.overall.value,
        "overall_accuracy_half_width_95": estimates.overall.half_width,
        "points": float(found.labelled),
    }
    for k, name in enumerate(found.classes.names):
        area = estimates.areas[k].scaled(1 / M2_PER_HA)
        users, producers, f1 = estimates.users[k], estimates.producers[k], estimates.f1[k]
        metrics |= {
            f"area_ha/{name}": area.value,
            f"area_ha_half_width_95/{name}": area.half_width,
            f"users_accuracy/{name}": users.value if users else None,
            f"producers_accuracy/{name}": producers.value if producers else None,
            f"f1/{name}": f1.value if f1 else None,
        }
    return {
        REFUSED.sub("_", f"assessed/{_allowed(assessment)}/{name}"): value
        for name, value in metrics.items()
    }


def _allowed(name: str) -> str:
    """Return a name with signs that MLflow allows in names and paths."""
    return REFUSED.sub("_", name).replace("/", "_").strip(". ") or "assessment"
