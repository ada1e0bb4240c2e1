"""Renew a project for the installed version: dvc.yaml, stages, settings and the lock."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from pointcover.config.params_text import keys_of, with_values
from pointcover.project.create import digest_text, lock_of
from pointcover.project.template import PARAMS, project_files, written_by_us
from pointcover.runtime.atomic_files import publish_text
from pointcover.runtime.code_lock import LOCK, read_lock
from pointcover.yaml_files import read_yaml

KEEPS_RESULTS: Final[dict[str, Any]] = {
    "train.classifier.smoothing_px": 0,  # new projects have 3
}
"""Values of new settings, by dotted key, that keep the results of projects without them; a setting
that is not here gets the value of a new project, which keeps them."""

NEW = ".new"
"""Suffix of the new version of a file that the user edited."""


@dataclass
class Upgrade:
    """What an upgrade did."""

    before: str
    """Version of the lock."""
    replaced: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    """Files that the user edited: the new ones lie beside them."""
    added: dict[str, Any] = field(default_factory=dict)
    """Settings that params.yaml lacked, with their values."""
    removed: dict[str, Any] = field(default_factory=dict)
    """Settings that no longer exist, with their values."""
    stages: list[str] = field(default_factory=list)
    """Stages with other code than before, which run again."""


def upgrade_project(folder: Path) -> Upgrade:
    """Renew the files of a project, and its lock.

    Files that the user edited stay, and the new ones are written beside them. params.yaml keeps its
    values; where settings are new or gone, its text is that of this version with these values. New
    settings have the values that keep results.

    Raises:
        ValueError: the folder has no lock, or a file cannot be read.
    """
    path = folder / LOCK
    if not path.is_file():
        raise ValueError(
            f"{folder.resolve()} has no {LOCK}, so it is no project that `pointcover init` made: "
            "run this in the project's folder"
        )
    files = project_files()
    params, renewed = _renew_params(folder / PARAMS, files[PARAMS])
    try:
        lock = read_lock(path)
    except ValueError:  # as after a merge: all files count as edited
        lock = {"version": "unknown", "stages": {}, "files": {}}
    done = Upgrade(lock["version"], added=params.added, removed=params.removed)
    for name, text in written_by_us(files).items():
        place = folder / name
        found = place.read_text(encoding="utf-8") if place.is_file() else None
        if found == text:
            continue
        if found is not None and digest_text(found) != lock["files"].get(name):
            if digest_text(text) != lock["files"].get(name):
                publish_text(place.with_name(place.name + NEW), text)
                done.edited.append(name)
            continue
        publish_text(place, text)
        done.replaced.append(name)
    if renewed is not None:
        publish_text(folder / PARAMS, renewed)
        done.replaced.append(PARAMS)
    publish_text(path, lock_of(folder, files))
    after = read_lock(path)["stages"]
    done.stages = [name for name, digest in after.items() if lock["stages"].get(name) != digest]
    return done


class _Changes(NamedTuple):
    """Settings that params.yaml lacks, and has too many, with their values."""

    added: dict[str, Any]
    removed: dict[str, Any]


def _renew_params(path: Path, template: str) -> tuple[_Changes, str | None]:
    """Return the text of params.yaml with the settings of this version; None if it has them."""
    ours = _leaves(yaml.safe_load(template), keys_of(template))
    theirs = _leaves(read_yaml(path), keys_of(template))
    changes = _Changes(
        {key: KEEPS_RESULTS.get(key, ours[key]) for key in ours if key not in theirs},
        {key: value for key, value in theirs.items() if key not in ours},
    )
    if not changes.added and not changes.removed:
        return changes, None
    kept = {key: theirs[key] for key in ours if key in theirs}
    text, _ = with_values(template, kept | changes.added)
    return changes, text


def _leaves(values: Any, sections: list[str], prefix: str = "") -> dict[str, Any]:
    """Return values by dotted key; a table that is one value of a setting stays one.

    Args:
        values: of params.yaml, or of a section.
        sections: dotted keys with a line of their own in the template.
        prefix: of the keys, with a dot at its end.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        is_section = any(other.startswith(f"{name}.") for other in sections)
        if isinstance(value, dict) and is_section:
            found |= _leaves(value, sections, f"{name}.")
        else:
            found[name] = value
    return found
