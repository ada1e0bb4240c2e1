"""A stage of a project runs with the locked code only."""

import pytest

from pointcover.runtime import code_lock
from pointcover.runtime.code_lock import LOCK, check_lock, code_digest, code_digests, read_lock
from tests.imagery import ROOT

STAGES = ROOT / "stages"


def test_a_digest_changes_with_code_of_the_stage_alone(tmp_path, monkeypatch):
    names = ("annotate", "train", "evaluate", "download", "tile")
    before = code_digests(STAGES / f"{name}.py" for name in names)
    edited = code_lock.modules()["pointcover.training.fit"]
    monkeypatch.setattr(code_lock, "sha256", lambda path: "other" if path == edited else "same")
    monkeypatch.setattr(code_lock, "closure", code_lock.closure)
    with_edit = code_digests(STAGES / f"{name}.py" for name in names)
    monkeypatch.setattr(code_lock, "sha256", lambda path: "same")
    without = code_digests(STAGES / f"{name}.py" for name in names)
    assert {name for name in names if with_edit[name] != without[name]} == {"train"}
    assert len(set(before.values())) == len(names)


def test_a_card_is_code_of_download(monkeypatch):
    card = code_lock.PACKAGE / "datasets" / "cards" / "dubai.yaml"
    assert card.is_file()
    monkeypatch.setattr(code_lock, "sha256", lambda path: "same")
    before = code_digests(STAGES / f"{name}.py" for name in ("download", "tile"))
    monkeypatch.setattr(code_lock, "sha256", lambda path: "other" if path == card else "same")
    after = code_digests(STAGES / f"{name}.py" for name in ("download", "tile"))
    assert before["download"] != after["download"]
    assert before["tile"] == after["tile"]


def test_without_a_lock_nothing_is_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_lock(STAGES / "train.py")


def test_another_code_is_one_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = STAGES / "train.py"
    lock = tmp_path / LOCK
    lock.write_text(f"version: 0.1.0\nstages: {{train: {code_digest(script)}}}\nfiles: {{}}\n")
    check_lock(script)
    lock.write_text("version: 0.1.0\nstages: {train: 0123456789abcdef}\nfiles: {}\n")
    with pytest.raises(ValueError, match=r"other code for the stage 'train'.*of 0\.1\.0.*upgrade"):
        check_lock(script)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "version: 1\nstages: {}\nfiles: {}\n",
        "version: a\nstages: []\nfiles: {}\n",
        "{",
        "\x00",
    ],
)
def test_a_damaged_lock_is_one_message(tmp_path, text):
    path = tmp_path / LOCK
    path.write_text(text)
    with pytest.raises(ValueError, match="is not a lock of pointcover: write it again"):
        read_lock(path)
