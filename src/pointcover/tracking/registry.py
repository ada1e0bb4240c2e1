"""Register a model in MLflow's model registry, if it is the best of its test split.

An entry of the registry holds the models of one MLflow experiment that were scored on one test
split, since only their scores can be compared. The first one has the dataset's name. Where another
experiment or split has that name, as where two projects share a server, digits are added.
"""

import hashlib
import json
import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # mlflow takes a second to import, so functions import it when they need it
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

logger = logging.getLogger(__name__)

CHAMPION: Final = "champion"
"""Alias of the version with the highest test mIoU."""
SCORE_TAG: Final = "test_miou"
SPLIT_TAG: Final = "test_split"
EXPERIMENT_TAG: Final = "experiment"
UNDECIDED_TAG: Final = "undecided"
"""Tag of a version until the process that registers it has compared it with the others."""


@dataclass(frozen=True)
class Candidate:
    """A model that may be the best one of its dataset."""

    name: str
    """Name of the dataset."""
    experiment: str
    """Name of the MLflow experiment."""
    split: str
    """Digest of the test split."""
    score: float
    """Test mIoU."""
    source: str
    """URI of its files."""
    run_id: str
    """Of the run that trained it."""
    model_id: str | None = None
    """Of the logged model."""
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None

    @property
    def entry_tags(self) -> dict[str, str]:
        """What all models of one entry have in common."""
        return {EXPERIMENT_TAG: self.experiment, SPLIT_TAG: self.split}

    @property
    def version_tags(self) -> dict[str, str]:
        """What the version is chosen by."""
        return {SCORE_TAG: repr(self.score), SPLIT_TAG: self.split}


def register_champion(client: "MlflowClient", candidate: Candidate) -> str | None:
    """Register a model with the alias `champion`, if its score is the best in its entry.

    Returns:
        the name of the entry; None where another model is as good. A version that a person took
        the alias from does not get it back, unless no version has it.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS  # links the model to its versions

    name = _entry_for(client, candidate)
    before = _versions(client, name)
    last = _champion(client, name)
    # A repeated call goes on with the version that it made before it failed.
    made = next((version for version in before if _is_of(version, candidate)), None)
    is_champion = made is not None and last is not None and last.version == made.version
    if last is not None and not is_champion:
        is_decided = made is not None and UNDECIDED_TAG not in made.tags
        if is_decided or _score_of(last) >= candidate.score:
            return None
    if made is None:
        made = client.create_model_version(
            name,
            candidate.source,
            candidate.run_id,
            tags={**candidate.version_tags, **candidate.tags, UNDECIDED_TAG: "true"},
            description=candidate.description,
            model_id=candidate.model_id,
        )
    if candidate.model_id is not None:
        registered = json.loads(
            client.get_logged_model(candidate.model_id).tags.get(MLFLOW_MODEL_VERSIONS, "[]")
        )
        this = {"name": name, "version": made.version}
        if this not in registered:
            text = json.dumps([*registered, this])
            client.set_logged_model_tags(candidate.model_id, {MLFLOW_MODEL_VERSIONS: text})
    number = str(made.version)  # an integer where the store is a database
    decided = {str(one.version) for one in before if UNDECIDED_TAG not in one.tags} - {number}
    best = _settle_champion(client, name, decided)
    if UNDECIDED_TAG in made.tags:
        client.delete_model_version_tag(name, number, UNDECIDED_TAG)
    return name if best == number else None


def _settle_champion(client: "MlflowClient", name: str, decided: Collection[str]) -> str:
    """Set the alias to the best version, and return that version.

    Other processes register versions at the same time. Each looks again after it has set the alias,
    so the last one sees all versions.

    Args:
        client: of the store.
        name: of the entry.
        decided: versions that are no candidates any more, unless one is the champion: a person may
            have taken the alias from a better one.
    """
    while True:
        versions = _versions(client, name)  # before the alias, which a decided one may have by now
        champion = _champion(client, name)
        current = None if champion is None else str(champion.version)
        scored = [
            (_score_of(version), -int(version.version))
            for version in versions
            if str(version.version) == current or str(version.version) not in decided
        ]
        best = str(-max(scored)[1])  # of equal ones the first
        if current == best:
            return best
        client.set_registered_model_alias(name, CHAMPION, best)


def _versions(client: "MlflowClient", name: str) -> "list[ModelVersion]":
    return list(client.search_model_versions(f"name = '{name}'"))


def _score_of(version: "ModelVersion") -> float:
    """Return the test mIoU; of a version that a person made without one, less than any."""
    return float(version.tags.get(SCORE_TAG, -math.inf))


def _is_of(version: "ModelVersion", candidate: Candidate) -> bool:
    """Return whether a version is that of a candidate, from a call that was interrupted."""
    # MLflow does not tell the model's id of versions that it searches; a run has one model.
    is_same = version.run_id == candidate.run_id
    return is_same and version.tags.items() >= candidate.version_tags.items()


def _entry_for(client: "MlflowClient", candidate: Candidate) -> str:
    """Return the name of the entry of a model's experiment and test split, which is made."""
    digits = hashlib.sha256(repr(sorted(candidate.entry_tags.items())).encode()).hexdigest()[:8]
    other = f"{candidate.name}-{digits}"
    found = _entry(client, candidate.name)
    if found is None:
        _create(client, candidate.name, candidate)
        found = _entry(client, candidate.name)  # another process may have made it first
    if found is not None and found.tags.items() >= candidate.entry_tags.items():
        return candidate.name
    if _entry(client, other) is None:
        logger.warning(
            "%r in the model registry holds models of another test split or MLflow experiment, "
            "so this model is registered as %r",
            candidate.name,
            other,
        )
        _create(client, other, candidate)
    return other


def _entry(client: "MlflowClient", name: str) -> "RegisteredModel | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _create(client: "MlflowClient", name: str, candidate: Candidate) -> None:
    from mlflow.exceptions import MlflowException

    description = (
        f"Models of the dataset {candidate.name} that were scored on one test split, by the "
        f"experiment {candidate.experiment}. The alias `{CHAMPION}` is the one with the highest "
        f"test mIoU, a score that this choice biases upwards."
    )
    try:
        client.create_registered_model(name, tags=candidate.entry_tags, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
