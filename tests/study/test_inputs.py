"""Names of experiments depend on the contents of files, and not on where or when they were made."""

import json
import os
import shutil

import pytest

from pointcover.study import inputs
from pointcover.study.inputs import KEPT, Inputs

VALUES = {
    "dataset": "dubai",
    "source": "images",
    "annotations": "sources",
    "train": {"weights_file": "sources/none", "epochs": 3},
    "evaluate": {"ensemble": "sources"},
}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "project"
    (root / "images" / "north").mkdir(parents=True)
    (root / "images" / "north" / "a.tif").write_bytes(b"image")
    (root / "sources").mkdir()
    (root / "sources" / "mine.yaml").write_text("classes: [a, b]\n")
    (root / "encoder.pt").write_bytes(b"weights")
    return root


def name(root, **values):
    return Inputs(root).name({**VALUES, **values})


def test_names_are_the_same_for_copies_elsewhere_and_later(root, tmp_path):
    first = name(root)
    elsewhere = tmp_path / "disk"
    shutil.copytree(root / "images", elsewhere)
    os.utime(elsewhere / "north" / "a.tif", (1, 1))
    assert name(root, source=str(elsewhere)) == first
    assert name(root, source="../disk") == first
    shutil.copytree(root, tmp_path / "clone")
    assert name(tmp_path / "clone") == first


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "images" / "north" / "a.tif").write_bytes(b"IMAGE"),
        lambda root: (root / "images" / "north").rename(root / "images" / "south"),
        lambda root: (root / "images" / "b.tif").write_bytes(b""),
        lambda root: (root / "sources" / "mine.yaml").write_text("classes: [b, a]\n"),
    ],
    ids=["contents", "name", "new file", "card"],
)
def test_names_change_with_contents_and_names_of_files(root, change):
    first = name(root)
    change(root)
    assert name(root) != first


def test_a_card_outside_the_sources_and_a_weights_file_are_named_by_content(root):
    (root / "card.yaml").write_text("one")
    values = {"dataset": "card.yaml", "train": {"weights_file": "encoder.pt"}}
    first = name(root, **values)
    assert first["train"]["weights_file"] != "encoder.pt"
    (root / "card.yaml").write_text("two")
    second = name(root, **values)
    assert second["dataset"] != first["dataset"]
    (root / "encoder.pt").write_bytes(b"others")
    assert name(root, **values)["train"] != second["train"]


def test_names_that_are_no_files_stay_as_they_are(root):
    (root / "dubai").mkdir()  # a folder beside the project's files, named as a card
    values = {"source": "https://example.org/a.zip"}
    named = name(root, **values)
    assert (named["dataset"], named["source"]) == ("dubai", values["source"])
    assert named["train"] == VALUES["train"]
    assert VALUES["source"] == "images"


def test_settings_that_a_file_of_parameters_leaves_out_are_left_out(root):
    assert set(Inputs(root).name({"source": "images"})) == {"source", "files of sources"}


def test_each_file_is_read_once_and_again_when_it_changes(root, monkeypatch):
    read, sha256 = [], inputs.sha256
    monkeypatch.setattr(inputs, "sha256", lambda file: read.append(file.name) or sha256(file))
    first = name(root)
    assert sorted(read) == ["a.tif", "mine.yaml"]
    read.clear()
    assert name(root) == first
    assert not read
    (root / "images" / "north" / "a.tif").write_bytes(b"another")
    assert name(root) != first
    assert read == ["a.tif"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "1"])
def test_damaged_digests_are_made_again(root, text):
    first = name(root)
    (root / KEPT).write_text(text)
    assert name(root) == first


@pytest.mark.parametrize("mark", [None, 5, [1, 2], "abc"])
def test_a_damaged_digest_of_one_file_is_made_again(root, mark):
    first = name(root)
    kept = json.loads((root / KEPT).read_text())
    (damaged,) = [key for key in kept if key.endswith("a.tif")]
    (root / KEPT).write_text(json.dumps(kept | {damaged: mark}))
    assert name(root) == first


def test_what_was_read_before_an_interruption_is_not_read_again(root, monkeypatch):
    read, sha256 = [], inputs.sha256

    def stop_at_the_second(file):
        if read:
            raise KeyboardInterrupt
        read.append(file.name)
        return sha256(file)

    (root / "images" / "z.tif").write_bytes(b"second")
    monkeypatch.setattr(inputs, "sha256", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        name(root)
    assert [key.rsplit("/", 1)[-1] for key in json.loads((root / KEPT).read_text())] == read


def test_a_study_does_not_end_where_digests_cannot_be_kept(root, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(inputs, "publish_json", full)
    assert name(root)["source"] != "images"
    assert not (root / KEPT).exists()


def test_each_process_writes_digests_by_a_file_of_its_own(root, monkeypatch):
    written, publish = [], inputs.publish_json

    def note(path, values):
        written.append(path.name)
        publish(path, values)

    monkeypatch.setattr(inputs, "publish_json", note)
    name(root)
    assert set(written) == {f"contents-{os.getpid()}.json"}
    assert [path.name for path in (root / KEPT).parent.iterdir()] == [KEPT.name]


@pytest.mark.parametrize("left", [".DS_Store", "Thumbs.db", "__pycache__/a.pyc"])
def test_what_programs_leave_beside_data_is_no_content(root, left):
    first = name(root)
    for folder in ("sources", "images"):
        (root / folder / left).parent.mkdir(exist_ok=True)
        (root / folder / left).write_bytes(b"x")
    assert name(root) == first


def test_the_index_of_a_journal_is_no_content(root):
    first = name(root)
    (root / "sources" / "a.gpkg-shm").write_bytes(b"x")
    assert name(root) == first
