"""Bad input ends in one clear message that names file and remedy, and in no half-made output."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from pytest_socket import SocketConnectBlockedError
from rasterio.transform import Affine

from pointcover.networks.checkpoint import Member
from pointcover.networks.description import Checkpoint
from tests.imagery import draw_image, draw_mask, write_raster
from tests.map_models import TILE_SET
from tests.train_settings import network_settings


def test_the_network_is_off_in_tests():
    with (
        pytest.warns(UserWarning, match="tried to use socket"),
        pytest.raises(SocketConnectBlockedError),
    ):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


# What download refuses


def test_a_source_that_does_not_exist(project):
    project.set({"source": "nowhere"})
    assert "source: nowhere does not exist, wanted a folder or an archive" in project.refusal(
        "download"
    )


def test_a_source_that_is_no_archive(project):
    project.set({"source": "params.yaml"})
    assert "source: params.yaml is a file, wanted a folder or an archive" in project.refusal(
        "download"
    )


def test_no_file_at_all(project):
    shutil.rmtree(project.data)
    message = project.refusal("download")
    assert "source: no file in sources matches images 'images/*.tif' of dataset 'mine'" in message
    assert "Point `source` at the folder that holds them" in message


@pytest.mark.parametrize(("folder", "lacks"), [("images", "mask"), ("masks", "image")])
def test_an_unpaired_file(project, folder, lacks):
    write_raster(project.data / folder / "d.tif", draw_mask(100, 130))
    message = project.refusal("download")
    assert f"sources/mine/{folder}/d.tif has no {lacks}" in message
    assert "add what is missing or move them away" in message


def test_a_card_with_a_wrong_key(project):
    project.write_card(clases=[])
    message = project.refusal("download")
    assert message.startswith("sources/mine.yaml has one fault:")
    assert "clases: this key is unknown; did you mean 'classes'?" in message


def test_a_card_outside_sources(project):
    shutil.move("sources/mine.yaml", "mine.yaml")
    project.set({"dataset": "mine.yaml"})
    message = project.refusal("download")
    assert "the card mine.yaml lies outside sources/" in message
    assert "move it to sources/mine.yaml" in message


def test_a_refused_download_leaves_the_last_good_one(project):
    project.run("download")
    before = project.outputs()
    assert "data/dataset/dataset.json" in before
    write_raster(project.data / "images" / "d.tif", draw_image(10, 10))
    project.refusal("download")
    assert project.outputs() == before


# What tile refuses


@pytest.fixture
def image(project):
    return project.data / "images" / "a.tif"


@pytest.fixture
def mask(project):
    return project.data / "masks" / "a.tif"


def test_a_file_that_went_missing(project, image):
    project.run("download")
    image.unlink()
    assert "sources/mine/images/a.tif does not exist, wanted a raster file" in project.refusal(
        "tile"
    )


def test_an_empty_file(project, image):
    image.write_bytes(b"")
    assert "sources/mine/images/a.tif is empty (0 bytes), wanted a raster: copy it again" in (
        project.refusal("download", "tile")
    )


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_truncated_file(project, kind, request):
    path = request.getfixturevalue(kind)
    path.write_bytes(path.read_bytes()[:-2000])
    message = project.refusal("download", "tile")
    assert f"sources/mine/{kind}s/a.tif is " in message
    assert "cut short" in message
    assert message.endswith("Copy it again")


def test_a_file_that_is_no_raster(project, image):
    image.write_text("<html>Please log in</html>")
    message = project.refusal("download", "tile")
    assert "sources/mine/images/a.tif is no raster (it begins with b'<html>Pl')" in message
    assert "wanted GeoTIFF, PNG, JPEG" in message


def test_a_mask_cut_short_in_the_copy_of_a_png_dataset(project):
    project.write_card(images="images/*.tif", masks="masks/*.png")
    for name in "abc":
        path = project.data / "masks" / f"{name}.png"
        write_raster(path, draw_mask(100, 130), driver="PNG", crs=None, transform=None)
    project.set({"tile.size_px": 256})  # reads whole images: then GDAL is silent
    path = project.data / "masks" / "b.png"
    path.write_bytes(path.read_bytes()[:-300])
    assert "sources/mine/masks/b.png is damaged or cut short" in project.refusal("download", "tile")


def test_an_image_and_mask_of_different_size(project, mask):
    write_raster(mask, draw_mask(99, 130))
    message = project.refusal("download", "tile")
    first, second = (project.data / kind / "a.tif" for kind in ("images", "masks"))
    assert f"{first} and its mask {second} differ in size" in message
    assert "100×130 against 99×130 px. Pair the right files" in message


def test_an_unknown_id(project, mask):
    values = draw_mask(100, 130)
    values[70, 5] = 9
    write_raster(mask, values)
    message = project.refusal("download", "tile")
    assert "mine/masks/a.tif: unknown id 9 (1 px); known: 0, 1, 2" in message
    assert "Add it to the card's `classes`" in message


def test_an_unknown_colour(project, mask):
    project.write_card(mask_values="colours", ignore=[])
    for name in "abc":
        colours = np.zeros((3, 100, 130), np.uint8)
        for band, value in enumerate((0x84, 0x29, 0xF6)):
            colours[band] = value
        if name == "a":
            colours[0, 3, 4] = 0x85
        write_raster(project.data / "masks" / f"{name}.tif", colours)
    message = project.refusal("download", "tile")
    assert "sources/mine/masks/a.tif: unknown colour #8529F6 (1 px)" in message
    assert "known: #8429F6, #E2A929, #3C1098. Add it to the card's `classes`" in message


def test_a_mask_that_is_all_unlabelled(project, mask):
    write_raster(mask, np.full((100, 130), 255, np.uint8))
    message = project.refusal("download", "tile")
    assert "sources/mine/masks/a.tif labels no pixel: all are 255, transparent, or" in message
    assert "Leave the pair out, or correct the card's `classes`" in message


def test_fewer_than_three_regions(project):
    for folder in ("images", "masks"):
        (project.data / folder / "c.tif").unlink()
    project.write_card(split={"train": 0.6, "val": 0.2, "test": 0.2})
    message = project.refusal("download", "tile")
    assert "has 2 region(s) (images/a.tif, images/b.tif), wanted at least three" in message
    assert "Add orthophotos, or make regions smaller with `region` in the card" in message


def test_all_bad_files_are_told_at_once_and_the_last_good_tiles_stay(project, image):
    project.run("download", "tile")
    before = project.outputs()
    image.write_bytes(b"")
    write_raster(project.data / "masks" / "b.tif", draw_mask(10, 10))
    message = project.refusal("tile")
    assert message.startswith("2 orthophotos cannot be used:")
    assert "images/a.tif is empty" in message
    assert "masks/b.tif differ in size" in message
    assert project.outputs() == before


def test_a_stage_before_its_predecessor(project):
    for stage, file in (("tile", "dataset/dataset.json"), ("annotate", "tiles/tiles.json")):
        assert f"data/{file} does not exist: run `dvc repro`" in project.refusal(stage)


def test_an_inventory_that_was_cut_short(project):
    project.run("download")
    path = project.root / "data" / "dataset" / "dataset.json"
    path.write_text(path.read_text()[:-50])
    assert "data/dataset/dataset.json is damaged" in project.refusal("tile")


@pytest.mark.parametrize(
    ("file", "stage", "text"),
    [
        ("dataset/dataset.json", "tile", "[]"),
        ("dataset/dataset.json", "tile", '{"base": "source"}'),
        ("tiles/tiles.json", "annotate", "[1, 2]"),
        ("tiles/tiles.json", "annotate", '{"classes": 3}'),
        ("tiles/tiles.json", "annotate", {"mean": "a"}),
        ("tiles/tiles.json", "annotate", {"size_px": "64"}),
        ("tiles/tiles.json", "annotate", {"bands": [1]}),
        ("tiles/index.csv", "annotate", "tile,orthophoto\n"),
        ("tiles/index.csv", "annotate", "tile,orthophoto\na,b\n"),
        ("tiles/index.csv", "annotate", "\0\1\2"),
        ("tiles/index.csv", "annotate", -40),
    ],
)
def test_a_file_of_an_earlier_stage_in_another_shape_is_damaged(
    project, blank_pictures, file, stage, text
):
    project.run_once("download", "tile")
    path = project.root / "data" / file
    if isinstance(text, dict):
        text = json.dumps(json.loads(path.read_text()) | text)
    elif isinstance(text, int):
        text = path.read_text()[:text]
    path.write_text(text)
    said = project.refusal(stage)
    assert f"data/{file} is damaged" in said
    assert "delete it and run `dvc repro`, which writes it again" in said


@pytest.mark.parametrize("transform", [Affine(0, 0, 5, 0, 0, 6), Affine(1, 2, 5, 2, 4, 6)])
def test_a_transform_that_gives_pixels_no_area_is_refused(project, transform):
    for kind, draw in (("images", draw_image), ("masks", draw_mask)):
        write_raster(project.data / kind / "a.tif", draw(100, 130), transform=transform)
    said = project.refusal("download", "tile")
    assert "images/a.tif has the transform" in said
    assert "which gives its pixels no area: place it anew" in said


@pytest.mark.parametrize("name", [["a", "b"], {"a": 1}, None, 3])
def test_a_card_that_extends_no_name_is_refused(project, name):
    project.write_card(extends=name)
    assert f"sources/mine.yaml extends {name!r}, wanted one of" in project.refusal("download")


# What annotate refuses


@pytest.mark.parametrize("points", [0, "many"])
def test_points_that_are_no_budget(project, points):
    project.run("download", "tile")
    project.set({"points": points})
    message = project.refusal("annotate")
    assert f"points: got {points!r}, wanted a whole number, at least 1" in message


# The same, as DVC runs it


def assert_refused(done, stage, *said):
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    # libtiff, in C, may say "_tiffWriteProc: File too large." before
    *before, message = [line for line in done.stderr.splitlines() if line[:4] not in ("", "  - ")]
    assert all(line.startswith("_tiff") for line in before)
    assert message.startswith(f"{stage}: ")
    for words in said:
        assert words in done.stderr


@pytest.mark.slow
def test_real_stages_refuse_in_one_message_and_leave_nothing(project):
    image = project.data / "images" / "a.tif"
    whole = image.read_bytes()
    image.write_bytes(whole[:-2000])
    done = project.process("download")
    assert (done.returncode, done.stderr) == (0, "sources/mine.yaml: 3 orthophotos with masks\n")
    before = project.outputs()
    assert_refused(project.process("tile"), "tile", "images/a.tif is cut short", "Copy it again")
    assert project.outputs() == before
    project.set({"points": 0})
    assert_refused(project.process("annotate"), "annotate", "params.yaml has one fault", "points")
    assert project.outputs() == before


def test_a_disk_that_is_full_while_drawing_leaves_no_dataset(project):
    project.set({"dataset": "synthetic", "synthetic.orthophotos": 3, "synthetic.size_px": 128})
    done = project.process("download", max_file_bytes=5_000)
    assert_refused(
        done, "download", "drawn_00.tif could not be written", "is the disk full? Free some space"
    )
    assert project.outputs() == {}


def test_a_disk_that_is_full_while_tiling_leaves_the_old_tiles(project):
    project.run("download", "tile")
    before = project.outputs()
    write_raster(project.data / "images" / "a.tif", draw_image(100, 130, seed=99))
    done = project.process("tile", max_file_bytes=5_000)
    assert_refused(done, "tile", "a.tif could not be written", "is the disk full? Free some space")
    assert project.outputs() == before
    project.run("tile")
    with rasterio.open(project.root / "data" / "tiles" / "images" / "train" / "a.tif") as file:
        assert np.array_equal(file.read(), draw_image(100, 130, seed=99))


# What train and evaluate refuse before any work


@pytest.mark.slow
def test_a_class_weight_without_a_class(project):
    project.set({"train.class_weights": {"lava": 2}})
    message = project.refusal("download", "tile", "annotate", "train")
    assert "class_weights name lava, wanted names among" in message


def test_priors_that_are_not_those_of_the_classes_or_of_what_models_learned(project):
    from pointcover.evaluation.evaluator import corrections_of

    names = TILE_SET.classes.names

    def correct(priors, *label_fractions, strength=1.0):
        said = {"priors": priors, "prior_strength": strength}
        settings = project.params().evaluate.model_copy(update=said)
        members = [
            Member(Path(f"model{n}"), None, Checkpoint(network_settings(), TILE_SET, {}, fractions))
            for n, fractions in enumerate(label_fractions)
        ]
        return corrections_of(settings, members)

    assert correct({}, None) == []
    with pytest.raises(ValueError, match=r"priors lack .* and name unknown lava: give land"):
        correct({"lava": 1.0}, None)
    with pytest.raises(ValueError, match="priors sum to"):
        correct(dict.fromkeys(names, 0.9), None)
    priors, learned = (0.1, 0.2, 0.3, 0.4), [(0.4, 0.3, 0.2, 0.1), (0.25,) * 4]
    by_name = dict(zip(names, priors, strict=True))
    for one, fractions in zip(correct(by_name, *learned, strength=0.5), learned, strict=True):
        shift = one(torch.zeros(1, len(names), 1, 1)).flatten().numpy()
        np.testing.assert_allclose(shift, np.log(np.divide(priors, fractions)) / 2, rtol=1e-5)
    with pytest.raises(ValueError, match="model1 does not hold the fraction"):
        correct(by_name, learned[0], None)
    with pytest.raises(ValueError, match=rf"model0 was trained without labels of \['{names[1]}'\]"):
        correct(by_name, (0.5, 0.0, 0.25, 0.25))
