"""Panels are named by what they show, and show it."""

import numpy as np
import pytest
import torch
from PIL import Image

from pointcover.evaluation.panels import PanelStyle, draw_panels, name_panels
from pointcover.labels import IGNORE_INDEX
from pointcover.tileset.dataset import TileDataset
from tests.tile_sets import CLASSES, write_easy_tiles

DARK, BRIGHT = CLASSES.colours
DENSE = PanelStyle(CLASSES, "dense masks", True)
RED, WHITE, GREY = (214, 40, 40), (255, 255, 255), (235, 235, 235)


def test_names_have_kind_number_and_tile_and_only_valid_characters():
    assert name_panels("worst", ["Tile 3_0", "a/b:c*_1"]) == [
        "worst_1_Tile-3_0",
        "worst_2_a-b-c-_1",
    ]
    many = name_panels("fixed", [f"t_{k}" for k in range(12)])
    assert (many[0], many[11]) == ("fixed_01_t_0", "fixed_12_t_11")
    assert many == sorted(many)
    assert name_panels("fixed", []) == []
    alike = name_panels("fixed", ["Tile 3_0", "Tile-3_0"])
    assert len(set(alike)) == 2


def parts_of(path):
    """The colours of a panel that cover more than a hundredth of it, by fraction."""
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("RGB"))
    colours, counts = np.unique(values.reshape(-1, 3), axis=0, return_counts=True)
    fractions = counts / counts.sum()
    found = zip(colours.tolist(), fractions, strict=True)
    return {tuple(colour): fraction for colour, fraction in found if fraction > 0.01}, values.shape


def predicted_of(masks, predictions):
    images = torch.full((len(masks), 3, *masks.shape[1:]), 77, dtype=torch.uint8)
    confidence = torch.full(masks.shape, 0.5)
    yield images[:1], masks[:1], predictions[:1], confidence[:1]
    yield images[1:], masks[1:], predictions[1:], confidence[1:]


@pytest.fixture
def half_right():
    masks = torch.zeros((3, 16, 16), dtype=torch.uint8)
    predictions = masks.clone()
    predictions[:, :, 8:] = 1
    return masks, predictions


def test_a_panel_a_tile_with_image_mask_prediction_errors_and_confidence(half_right, tmp_path):
    captions = [(f"fixed_{k}_t", f"tile {k}") for k in range(3)]
    draw_panels(
        tmp_path, captions, predicted_of(*half_right), PanelStyle(CLASSES, "dense masks", True)
    )
    assert {file.name for file in tmp_path.iterdir()} == {f"fixed_{k}_t.png" for k in range(3)}
    colours, shape = parts_of(tmp_path / "fixed_0_t.png")
    assert shape == (410, 1600, 3)
    assert colours[(77, 77, 77)] == pytest.approx(0.13, abs=0.03)  # the image
    assert colours[DARK] == pytest.approx(1.5 * colours[(77, 77, 77)], rel=0.1)  # mask, half a map
    assert colours[BRIGHT] == pytest.approx(0.5 * colours[(77, 77, 77)], rel=0.1)
    assert colours[RED] == pytest.approx(colours[BRIGHT], rel=0.1)


def test_too_few_captions_are_an_error_and_none_draw_nothing(half_right, tmp_path):
    with pytest.raises(ValueError, match="zip"):
        draw_panels(tmp_path, [("a", "a")], predicted_of(*half_right), DENSE)
    empty = tmp_path / "empty"
    empty.mkdir()
    draw_panels(empty, [], iter(()), DENSE)
    assert not list(empty.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("is_dense", "views"), [(True, 6), (False, 4)])
def test_sparse_training_labels_are_shown_with_and_without_dense_masks(is_dense, views, tmp_path):
    tiles = write_easy_tiles(tmp_path / "tiles", 1, clicks=30, size_px=64)
    sparse = TileDataset(tiles, tmp_path / "tiles/images", tmp_path / "tiles/masks", 64)
    masks = torch.zeros((1, 64, 64), dtype=torch.uint8)
    draw_panels(
        tmp_path,
        [("train_1_t", "t")],
        [(sparse[0][0][None], masks, masks, masks.float())],
        PanelStyle(CLASSES, "dense masks", is_dense),
        sparse,
    )
    colours, shape = parts_of(tmp_path / "train_1_t.png")
    assert shape == (410, 320 * views, 3)
    assert GREY in colours  # between the clicks


def test_single_annotations_are_drawn_large_enough_to_be_seen(tmp_path):
    masks = torch.full((1, 128, 128), IGNORE_INDEX, dtype=torch.uint8)
    masks[0, 64, 64] = 1
    images = torch.zeros((1, 3, 128, 128), dtype=torch.uint8)
    nothing = torch.zeros((1, 128, 128), dtype=torch.uint8)
    draw_panels(
        tmp_path,
        [("a", "a")],
        [(images, masks, nothing, nothing.float())],
        PanelStyle(CLASSES, "held-out annotations", False),
    )
    with Image.open(tmp_path / "a.png") as picture:
        values = np.asarray(picture.convert("RGB"))[:330]
    assert 100 < (values == BRIGHT).all(axis=-1).sum() < 400  # 5 × 5 px at twice the size
    assert 100 < (values == RED).all(axis=-1).sum() < 400  # as is its error
