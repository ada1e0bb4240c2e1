"""A folder without a card: its classes are those in its masks, and no split is made up silently."""

import logging

import numpy as np
import pytest
import yaml

from pointcover.datasets.card import DatasetCard, find_pairs
from pointcover.datasets.infer_card import format_card, infer_card
from pointcover.raster.raster_io import open_dataset
from pointcover.tiling.splits import split_regions
from tests.imagery import draw_image, read_tree, write_raster

RED, GREEN, BLUE, GREY, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9), (0, 0, 0)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "own"


def write_masks(folder, masks, images="png", ending="png", **options):
    """Write pairs by `split/stem`; masks are (H, W) numbers or (H, W, 3) colours."""
    driver = {"png": "PNG", "tif": "GTiff", "jpg": "JPEG"}
    for number, (name, mask) in enumerate(masks.items()):
        split, stem = name.split("/")
        values = np.asarray(mask)
        values = values.astype(np.uint8) if values.dtype.kind == "i" else values
        values = values.transpose(2, 0, 1) if values.ndim == 3 else values
        height, width = values.shape[-2:]
        place = {"crs": None, "transform": None}
        write_raster(
            folder / split / "images" / f"{stem}.{images}",
            draw_image(height, width, number),
            driver=driver[images],
            **place,
        )
        own = {key: value[name] for key, value in options.items() if name in value}
        write_raster(
            folder / split / "masks" / f"{stem}.{ending}",
            values,
            driver=driver[ending],
            **place,
            **own,
        )


def same(mask, names=("train/a", "train/b", "val/c", "test/d")):
    return dict.fromkeys(names, mask)


def classes_of(card):
    return [(entry.name, entry.value) for entry in card.classes]


def test_classes_are_the_numbers_in_all_masks_and_255_is_unlabelled(folder):
    write_masks(folder, same([[0, 3]]) | {"val/c": [[3, 7]], "test/d": [[255, 0]]})
    card = infer_card(folder)
    assert classes_of(card) == [("class_0", 0), ("class_3", 3), ("class_7", 7)]
    assert (card.ignore, card.mask_values) == ((255,), "ids")
    assert len(set(card.class_table().colours)) == 3
    assert (card.images, card.masks) == ("*/images/*.png", "*/masks/*.png")


def test_in_black_and_white_masks_255_is_a_class(folder):
    write_masks(folder, same([[0, 255]]))
    card = infer_card(folder)
    assert (classes_of(card), card.ignore) == ([("class_0", 0), ("class_255", 255)], ())


def test_a_masks_nodata_is_unlabelled(folder):
    write_masks(folder, same([[0, 1, 2]]), ending="tif", nodata={"train/a": 0})
    card = infer_card(folder)
    assert (classes_of(card), card.ignore) == ([("class_1", 1), ("class_2", 2)], (0,))


def test_numbers_that_a_masks_mask_hides_are_no_classes(folder):
    write_masks(folder, same([[0, 1, 2]]), ending="tif")
    for path in folder.glob("*/masks/*.tif"):
        with open_dataset(path, "r+") as file:
            file.write_mask(np.array([[0, 255, 255]], np.uint8))
    card = infer_card(folder)
    assert (classes_of(card), card.ignore) == ([("class_1", 1), ("class_2", 2)], ())


def test_numbers_of_sixteen_bits_are_classes(folder):
    write_masks(folder, same(np.array([[0, 40_000]], np.uint16)))
    assert classes_of(infer_card(folder)) == [("class_0", 0), ("class_40000", 40_000)]


def test_classes_are_the_colours_in_all_masks(folder):
    write_masks(folder, same([[RED, GREEN]]) | {"val/c": [[BLUE, GREY]], "test/d": [[BLACK, RED]]})
    card = infer_card(folder)
    assert card.mask_values == "colours"
    assert card.class_table().colours == (BLACK, BLUE, GREEN, GREY, RED)
    assert card.classes[4].name == "colour_FF0000"
    assert card.ignore == ()


def test_three_bands_that_agree_everywhere_are_numbers(folder):
    write_masks(folder, same([[BLACK, GREY]]))
    assert classes_of(infer_card(folder)) == [("class_0", 0), ("class_9", 9)]


def test_a_black_mask_of_three_bands_is_black_among_coloured_ones(folder):
    write_masks(folder, same([[RED, GREEN]]) | {"val/c": [[BLACK, BLACK]]})
    card = infer_card(folder)
    assert card.class_table().colours == (BLACK, GREEN, RED)


def test_palettes_that_agree_show_the_numbers_in_their_colours(folder):
    palette = {0: GREEN, 2: BLUE, 3: RED}
    masks = same([[0, 2]])
    write_masks(folder, masks, palette=dict.fromkeys(masks, palette))
    card = infer_card(folder)
    assert (card.mask_values, classes_of(card)) == ("ids", [("class_0", 0), ("class_2", 2)])
    assert card.class_table().colours == (GREEN, BLUE)


def test_palettes_that_differ_make_the_colours_the_classes(folder):
    masks = same([[0, 1]])
    palettes = {key: {0: GREEN, 1: RED} for key in masks} | {"val/c": {0: RED, 1: BLUE}}
    write_masks(folder, masks, palette=palettes)
    card = infer_card(folder)
    assert card.mask_values == "colours"
    assert card.class_table().colours == (BLUE, GREEN, RED)


def test_a_palette_that_shows_two_numbers_alike_still_gives_two_colours(folder):
    masks = same([[0, 1]])
    write_masks(folder, masks, palette={key: {0: BLACK, 1: BLACK} for key in masks})
    assert len(set(infer_card(folder).class_table().colours)) == 2


@pytest.mark.parametrize("count", [2, 20, 64])
def test_any_number_of_classes_gets_colours_that_differ(folder, count):
    write_masks(folder, same(np.arange(count)[np.newaxis]))
    assert len(set(infer_card(folder).class_table().colours)) == count


def test_masks_taller_than_a_strip_are_read_to_their_end(folder, monkeypatch):
    monkeypatch.setattr("pointcover.datasets.infer_card.STRIP_PX", 2)
    mask = np.zeros((7, 3), np.uint8)
    mask[6, 2] = 5
    write_masks(folder, same(np.zeros((7, 3), np.uint8)) | {"val/c": mask})
    assert classes_of(infer_card(folder)) == [("class_0", 0), ("class_5", 5)]
    rgb = np.stack([mask, mask, np.zeros_like(mask)], axis=-1)
    write_masks(folder, same(rgb))
    assert infer_card(folder).class_table().colours == (BLACK, (5, 5, 0))


# Splits


def test_with_a_test_folder_each_folder_is_its_split(folder):
    write_masks(folder, same([[0, 1]]))
    card = infer_card(folder)
    regions = [pair.region for pair in find_pairs(card, folder)]
    assert split_regions(card, regions, 0) == {
        "train/images/a.png": "train",
        "train/images/b.png": "train",
        "val/images/c.png": "val",
        "test/images/d.png": "test",
    }


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (5, 1), (10, 2), (13, 3)])
def test_without_a_test_folder_val_is_scored_and_the_last_fifth_of_train_is_val(
    folder, count, held_out
):
    train = [f"train/{number:02}" for number in range(count)]
    write_masks(folder, same([[0, 1]], (*train, "val/00", "val/01")))
    card = infer_card(folder)
    regions = [pair.region for pair in find_pairs(card, folder)]
    sides = split_regions(card, regions, 0)
    by_split = {
        split: sorted(
            name.replace("/images", "").removesuffix(".png")
            for name in sides
            if sides[name] == split
        )
        for split in ("train", "val", "test")
    }
    assert by_split == {
        "train": train[: count - held_out],
        "val": train[count - held_out :],
        "test": ["val/00", "val/01"],
    }


# Refusals


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train/a"], "lacks val/images, val/masks: wanted train/images"),
        (["val/a", "test/b"], "lacks train/images, train/masks: wanted"),
        (["train/a", "val/b"], "train/images holds 1 image(s), wanted at least two"),
    ],
)
def test_a_folder_of_another_layout_is_refused_with_the_layout(folder, names, said):
    write_masks(folder, same([[0, 1]], names))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
        infer_card(folder)
    assert said in str(caught.value)


def test_a_folder_that_does_not_exist_is_refused_with_the_layout(folder):
    with pytest.raises(FileNotFoundError, match="own does not exist, wanted train/images"):
        infer_card(folder)


def test_files_of_several_endings_are_refused_with_their_counts(folder):
    write_masks(folder, same([[0, 1]]))
    write_masks(folder, {"val/z": [[0, 1]]}, images="tif")
    with pytest.raises(ValueError, match=r"several endings \(4 \.png, 1 \.tif\), wanted one"):
        infer_card(folder)


def test_side_cars_are_no_images(folder):
    write_masks(folder, same([[0, 1]]))
    for name in ("Thumbs.db", "a.png.aux.xml", "._a.png"):
        (folder / "train" / "masks" / name).touch()
    assert len(infer_card(folder).classes) == 2


def test_masks_saved_with_loss_are_refused_with_what_to_do(folder):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64))
    write_masks(folder, same(noise), ending="jpg")
    with pytest.raises(ValueError, match=r"more than 64 values: .* saved with loss .*binarise_at"):
        infer_card(folder)


def test_numbers_beside_colours_are_refused_with_a_file_of_each(folder):
    write_masks(folder, same([[RED, GREEN]]) | {"val/c": [[0, 1]]})
    with pytest.raises(
        ValueError, match=r"val/masks/c\.png is a mask of numbers, but .*test/masks"
    ):
        infer_card(folder)


def test_masks_of_one_class_alone_are_refused(folder):
    write_masks(folder, same([[1, 1]]))
    with pytest.raises(ValueError, match=r"the masks hold one class \(class_1\), wanted at least"):
        infer_card(folder)


def test_masks_with_alpha_or_fractions_are_refused(folder):
    write_masks(folder, same([[0, 1]]))
    write_raster(folder / "val/masks/c.png", np.zeros((4, 1, 2), np.uint8), driver="PNG")
    with pytest.raises(ValueError, match=r"c\.png has 4 bands, wanted one of numbers"):
        infer_card(folder)
    write_masks(folder, same([[0, 1]]), ending="tif")
    for path in folder.glob("*/masks/*.png"):
        path.unlink()
    write_raster(folder / "val/masks/c.tif", np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match=r"c\.tif holds 1 band\(s\) of float32, wanted one of"):
        infer_card(folder)


# The card that is written, and the stage


@pytest.mark.parametrize("mask", [[[0, 3, 255]], [[RED, GREEN, BLACK]]])
def test_the_written_card_is_the_inferred_one(folder, mask):
    write_masks(folder, same(mask, ('train/a "b" é', "train/b", "val/c")))
    card = infer_card(folder)
    assert DatasetCard.model_validate(yaml.safe_load(format_card(card))) == card


@pytest.fixture
def own(project):
    """A project that points at a folder without a card and without a test folder."""
    folder = project.root / "pictures"
    mask = np.kron([[0, 1], [2, 0]], np.ones((32, 32))).astype(np.uint8)
    write_masks(folder, same(mask, ("train/a", "train/b", "train/c", "val/d")))
    project.set({"dataset": "folder", "source": str(folder)})
    return project


def test_the_stage_says_what_it_inferred_and_writes_a_card_that_gives_the_same_tiles(own, caplog):
    caplog.set_level(logging.INFO)
    own.run("download", "tile")
    said = caplog.text
    assert "no card: the masks hold 3 classes (ids: class_0, class_1, class_2)." in said
    assert "copy data/dataset/card.yaml to sources/NAME.yaml" in said
    assert "no test folder: val is scored as the test split, and the last 1 images of train" in said
    tiles = read_tree(own.root / "data/tiles")
    (own.root / "sources/named.yaml").write_bytes(
        (own.root / "data/dataset/card.yaml").read_bytes()
    )
    own.set({"dataset": "sources/named.yaml"})
    own.run("download", "tile")
    assert read_tree(own.root / "data/tiles") == tiles
    assert not (own.root / "data/dataset/card.yaml").exists()


def test_what_the_stage_writes_names_no_place_of_this_machine(own):
    own.run("download")
    for path in (own.root / "data/dataset").iterdir():
        assert str(own.root) not in path.read_text()
        assert "pictures" not in path.read_text()
    before = read_tree(own.root / "data/dataset")
    (own.root / "pictures").rename(own.root / "moved")
    own.set({"source": "moved"})
    own.run("download")
    assert read_tree(own.root / "data/dataset") == before


@pytest.mark.parametrize("absolute", [False, True])
def test_the_path_of_a_folder_in_source_is_a_dataset(own, absolute):
    own.run("download", "tile")
    tiles = read_tree(own.root / "data/tiles")
    (own.root / "pictures").rename(own.root / "sources/pictures")
    dataset = own.root / "sources/pictures" if absolute else "sources/pictures"
    own.set({"dataset": str(dataset), "source": "sources"})
    own.run("download", "tile")
    assert read_tree(own.root / "data/tiles") == tiles
    assert str(own.root) not in (own.root / "data/dataset/dataset.json").read_text()


def test_a_folder_that_is_source_itself_is_a_dataset(own):
    own.run("download")
    before = read_tree(own.root / "data/dataset")
    own.set({"dataset": "pictures", "source": "pictures"})
    own.run("download")
    assert read_tree(own.root / "data/dataset") == before


@pytest.mark.parametrize("dataset", ["pictures", "sources/../pictures", "sources/link"])
def test_a_folder_that_dvc_does_not_watch_is_refused_with_what_to_type(own, dataset):
    (own.root / "sources/link").symlink_to(own.root / "pictures")
    own.set({"dataset": dataset, "source": "sources"})
    assert f"(-S dataset={dataset} -S source={dataset})" in own.refusal("download")


def test_source_without_the_layout_is_refused_by_the_stage(own):
    own.set({"source": "sources"})
    said = own.refusal("download")
    assert "sources is to be read without a card, but lacks train/images, train/masks" in said
