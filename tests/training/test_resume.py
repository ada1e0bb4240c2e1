"""A training finds its own state or none: not another's, not a damaged one, not one in use."""

import logging
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from pointcover.runtime.code_closure import code_files
from pointcover.runtime.fingerprint import fingerprint
from pointcover.training import resume as resumption
from pointcover.training.resume import FOLDER, KEPT_DAYS, Resumption
from tests.imagery import ROOT

STATE = {"weights": torch.arange(1000.0), "results": [{"epoch": 1, "miou": None}]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(resumption, "_WAIT_S", 0.2)


def save(root, name="a", epoch=1, state=STATE):
    with Resumption(root, name) as one:
        one.save(epoch, state)


def load(root, name="a"):
    with Resumption(root, name) as one:
        return one.load()


def the_state(root, name="a"):
    (path,) = (root / FOLDER / name).glob("*.pt")
    return path


def test_what_was_saved_last_is_loaded_and_takes_the_place_of_what_was_before(tmp_path):
    assert load(tmp_path) is None
    save(tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(loaded["weights"], STATE["weights"])
    assert loaded["results"] == STATE["results"]
    save(tmp_path, epoch=9, state={"epoch": 9})
    save(tmp_path, epoch=10, state={"epoch": 10})
    assert load(tmp_path) == {"epoch": 10}
    assert the_state(tmp_path).name.startswith("000010-")


def test_states_take_a_tenth_of_the_time_at_most(tmp_path, monkeypatch):
    class Clock:
        now_s = 100.0

        def monotonic(self):
            self.now_s += 1  # so a save, which looks twice, takes a second
            return self.now_s

    with Resumption(tmp_path, "a") as one:
        clock = Clock()
        monkeypatch.setattr(resumption.time, "monotonic", clock.monotonic)
        one.save(1, {"epoch": 1})
        clock.now_s += 7  # with the look itself 8 s after the end of the first
        one.save(2, {"epoch": 2})
        assert one.load() == {"epoch": 1}
        one.save(3, {"epoch": 3})
        assert one.load() == {"epoch": 3}


def test_another_training_finds_nothing(tmp_path):
    save(tmp_path, "a")
    assert load(tmp_path, "b") is None


def test_a_removed_one_is_gone_with_its_run_and_others_stay(tmp_path):
    save(tmp_path, "b")
    with Resumption(tmp_path, "a") as one:
        one.save(1, STATE)
        one.run_id = "0123"
        one.remove()
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ["b", "folders.lock"]


def test_the_run_is_remembered_even_before_an_epoch_is_saved(tmp_path):
    with Resumption(tmp_path, "a") as one:
        assert one.run_id is None
        one.run_id = "0123"
    with Resumption(tmp_path, "a") as one:
        assert one.run_id == "0123"
        assert one.load() is None


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: path.write_bytes(path.read_bytes()[:-500]),
        lambda path: path.write_bytes(b""),
    ],
    ids=["flipped", "truncated", "empty"],
)
def test_a_damaged_state_is_said_and_training_begins_anew_in_a_new_run(tmp_path, caplog, damage):
    with Resumption(tmp_path, "a") as one:
        one.save(1, STATE)
        one.run_id = "0123"
    path = the_state(tmp_path)
    damage(path)
    with caplog.at_level(logging.WARNING), Resumption(tmp_path, "a") as one:
        assert one.load() is None
        assert one.run_id is None
    assert f"{path} is damaged" in caplog.text
    assert "training starts again" in caplog.text
    assert load(tmp_path) is None


def test_a_state_that_is_code_is_not_run(tmp_path, caplog):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    save(tmp_path, state={"weights": Hostile()})
    assert load(tmp_path) is None
    assert not (tmp_path / "ran").exists()
    assert "training starts again" in caplog.text


def test_a_save_that_fails_leaves_the_last_state(tmp_path):
    save(tmp_path, epoch=3, state={"epoch": 3})
    with pytest.raises(TypeError), Resumption(tmp_path, "a") as one:
        one.save(4, {"epoch": 4, "bad": (i for i in ())})
    assert load(tmp_path) == {"epoch": 3}


HOLD = """
    import sys, time
    from pathlib import Path
    from pointcover.training.resume import Resumption
    with Resumption(Path(sys.argv[1]), "a") as one:
        one.save(1, {"epoch": 1})
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that trains under the name `a`."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def age(folder, days):
    then = time.time() - days * 86400
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


@pytest.mark.slow
def test_the_state_of_a_living_process_is_neither_read_nor_replaced_nor_removed(
    tmp_path, holder, caplog
):
    age(tmp_path / FOLDER / "a", 10 * KEPT_DAYS)
    with Resumption(tmp_path, "a") as one:
        assert one.load() is None
        assert one.run_id is None
        one.run_id = "0123"
        one.save(2, {"epoch": 2})
        one.remove()
    assert "the same training runs in another process" in caplog.text
    load(tmp_path, "b")  # cleans
    assert the_state(tmp_path).name.startswith("000001-")
    holder.kill()
    holder.wait()
    with Resumption(tmp_path, "a") as one:
        assert one.load() == {"epoch": 1}
        assert one.run_id is None


def test_what_nobody_went_on_with_is_removed_after_some_days(tmp_path):
    for name, days in (("old", KEPT_DAYS + 1), ("young", KEPT_DAYS - 1)):
        save(tmp_path, name)
        age(tmp_path / FOLDER / name, days)
    (tmp_path / FOLDER / "cut.partial").mkdir()
    save(tmp_path, "own")
    left = {path.name for path in (tmp_path / FOLDER).iterdir() if path.is_dir()}
    assert left == {"young", "own"}


def test_the_training_itself_goes_on_however_old_its_state_is(tmp_path):
    save(tmp_path)
    age(tmp_path / FOLDER / "a", 10 * KEPT_DAYS)
    assert load(tmp_path) is not None


# Fingerprints


def test_a_fingerprint_changes_with_every_setting_byte_and_name_and_with_nothing_else(tmp_path):
    def name_with(settings=None, content=b"x", file="one.tif", copy="first"):
        folder = tmp_path / copy / "tiles"
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        (folder / file).write_bytes(content)
        (folder / "two.tif").write_bytes(b"two")
        return fingerprint(settings or {"lr": 0.1, "seed": 1}, {"data/tiles": folder})

    first = name_with()
    assert len(first) == 32
    assert name_with(settings={"seed": 1, "lr": 0.1}, copy="second") == first
    others = [
        name_with(settings={"lr": 0.1, "seed": 2}),
        name_with(content=b"y"),
        name_with(file="other.tif"),
        fingerprint({"lr": 0.1, "seed": 1}, {}),
    ]
    assert len({first, *others}) == 5


def test_a_missing_file_has_no_fingerprint(tmp_path):
    with pytest.raises(FileNotFoundError):
        fingerprint({}, {"a": tmp_path / "missing"})


def test_the_code_of_a_training_is_known_but_for_what_only_records():
    code = code_files(ROOT / "stages" / "train.py")
    assert code[""] == ROOT / "stages" / "train.py"
    assert code["pointcover.training.resume"] == Path(resumption.__file__)
    assert not [name for name in code if name.startswith("pointcover.tracking")]
    assert all(path.is_file() for path in code.values())
