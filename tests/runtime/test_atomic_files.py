"""An output is whole or not there, whatever happens while it is written."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from pointcover.runtime import atomic_files as publishing
from pointcover.runtime.atomic_files import (
    publish_file,
    publish_folder,
    publish_json,
    publish_text,
    read_json,
)
from tests.imagery import read_tree


class Interruption(BaseException):
    """Neither an error nor one that `except Exception` catches, like a signal's SystemExit."""


def test_a_file_appears_only_when_its_block_ends(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with publish_file(path) as aside:
        aside.write_text("whole")
        assert not path.exists()
        assert aside.parent == path.parent  # a rename between disks would be a copy
    assert read_tree(tmp_path) == {
        f"{tmp_path.name}/deep": b"",
        f"{tmp_path.name}/deep/file.txt": b"whole",
    }


@pytest.mark.parametrize("error", [ValueError, Interruption])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail():
        with publish_file(path) as aside:
            aside.write_text("ne")
            raise error

    with pytest.raises(error):
        fail()
    assert read_tree(tmp_path) == {f"{tmp_path.name}/file.txt": b"old"}


def test_a_disk_that_is_full_for_torch_leaves_the_old_file_and_says_so(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("old")

    def fail():
        with publish_file(path) as aside:
            aside.touch()
            torch.save({"a": torch.zeros(100_000)}, "/dev/full")

    with pytest.raises(OSError, match="torch could not write it whole") as caught:
        fail()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert read_tree(tmp_path) == {f"{tmp_path.name}/model.pt": b"old"}


@pytest.mark.parametrize("error", [ValueError, Interruption])
def test_a_folder_that_fails_leaves_the_old_one_and_nothing_else(tmp_path, error):
    with publish_folder(tmp_path / "out") as aside:
        (aside / "old").write_text("old")

    def fail():
        with publish_folder(tmp_path / "out") as aside:
            (aside / "new").write_text("ne")
            raise error

    with pytest.raises(error):
        fail()
    assert read_tree(tmp_path / "out") == {"out/old": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_replaces_the_old_one_without_mixing_with_it(tmp_path):
    for name in ("old", "new"):
        with publish_folder(tmp_path / "out") as aside:
            (aside / "sub").mkdir()
            (aside / "sub" / name).write_text(name)
    assert read_tree(tmp_path / "out") == {"out/sub": b"", "out/sub/new": b"new"}


def test_what_a_killed_attempt_left_is_removed_and_never_published(tmp_path):
    code = """
        import os, signal, sys
        from pathlib import Path
        from pointcover.runtime.atomic_files import publish_folder
        with publish_folder(Path(sys.argv[1])) as out:
            (out / "half").write_text("ha")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "out")], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    with publish_folder(tmp_path / "out") as aside:
        (aside / "whole").write_text("whole")
    assert read_tree(tmp_path) == {
        f"{tmp_path.name}/out": b"",
        f"{tmp_path.name}/out/whole": b"whole",
    }


def test_every_file_of_a_folder_is_on_the_disk_before_the_folder_gets_its_name(
    tmp_path, monkeypatch
):
    flushed = []

    def flush(path):
        assert not (tmp_path / "out").exists()
        flushed.append(path.name)

    monkeypatch.setattr(publishing, "flush_to_disk", flush)
    with publish_folder(tmp_path / "out") as aside:
        (aside / "sub").mkdir()
        for name in ("a", "sub/b"):
            (aside / name).write_text(name)
    assert sorted(flushed) == ["a", "b"]


def test_a_disk_that_shows_itself_full_at_the_last_moment_leaves_the_old_file(
    tmp_path, monkeypatch
):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(publishing, "flush_to_disk", full)
    with pytest.raises(OSError, match="No space left") as caught:
        publish_text(path, "new")
    assert caught.value.filename == str(path)
    assert read_tree(tmp_path) == {f"{tmp_path.name}/file.txt": b"old"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_refused_and_nothing_written(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        publish_json(tmp_path / "metrics.json", {"miou": value})
    assert not list(tmp_path.iterdir())


def test_json_is_read_back_as_it_was_published(tmp_path):
    values = {"name": "Ł×2", "fraction": 0.1, "nothing": None}
    publish_json(tmp_path / "a.json", values)
    assert (
        json.loads((tmp_path / "a.json").read_bytes()) == values == read_json(tmp_path / "a.json")
    )


def test_json_that_is_missing_or_cut_short_is_named_with_the_command_that_makes_it(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match=r"a\.json does not exist: run `dvc repro`"):
        read_json(path)
    path.write_text('{"a": ')
    with pytest.raises(ValueError, match=r"a\.json is damaged .*delete it and run `dvc repro`"):
        read_json(path)
