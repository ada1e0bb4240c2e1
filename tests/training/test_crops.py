"""Batches hold what the tiles hold, in an order that seed and epoch alone decide."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointcover.labels import IGNORE_INDEX
from pointcover.runtime import devices
from pointcover.tileset.dataset import TileDataset, tile_loader
from pointcover.tileset.tiles import Tile
from pointcover.training.augmentation import Augmentation
from pointcover.training.augmentation_levels import AugmentationLevel
from pointcover.training.crops import (
    CropDataset,
    EpochBatches,
    crops_of,
    read_epochs,
    sample_seed,
    tile_weights,
    train_loader,
)
from tests.tile_sets import write_orthophoto
from tests.train_settings import train_settings

HEIGHT, WIDTH, SIZE = 80, 150, 64
"""Six tiles: two rows, the lower 16 px high; three columns, the last 22 px wide."""


def drawn(bands=3, height=HEIGHT, width=WIDTH):
    """Row and column in the first bands, both from 1: 0 is padding only. One in three labelled."""
    rows, cols = np.indices((height, width))
    image = np.stack([rows + 1, cols + 1, 1 + (rows + cols) % 200, 1 + rows * cols % 255])[:bands]
    mask = np.where((rows + cols) % 3 == 0, (rows // 2 + cols) % 2, IGNORE_INDEX)
    return image.astype(np.uint8), mask.astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tiles")


@pytest.fixture(scope="module")
def tiles(folder):
    return write_orthophoto(folder, "sheet", *drawn(), SIZE)


@pytest.fixture
def dataset(folder, tiles):
    return TileDataset(tiles, folder / "images", folder / "masks", SIZE)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One tile of an orthophoto that is smaller: 40 × 50 px."""
    folder = tmp_path_factory.mktemp("small")
    tiles = write_orthophoto(folder, "sheet", *drawn(3, 40, 50), SIZE)
    return TileDataset(tiles, folder / "images", folder / "masks", SIZE)


def make_loader(
    dataset, *, seed=1, workers=0, crop_px=32, zoom=1, colours=True, bands=3, batch_size=3
):
    settings = train_settings(
        crop_px=crop_px,
        zoom=zoom,
        augmentation="medium" if colours else "weak",
        batch_size=batch_size,
    )
    return train_loader(dataset, settings, bands=bands, workers=workers, seed=seed)


def epochs_of(loader, *epochs):
    """Pass over a loader; give images and masks of each batch of the epochs."""
    return [
        (images.clone(), masks.clone())
        for _, batches in read_epochs(loader, epochs)
        for images, masks in batches
    ]


def are_equal(one, other):
    return len(one) == len(other) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True)
    )


# Whole tiles


def test_a_tile_comes_with_its_surroundings_and_its_own_labels_alone(dataset):
    image, mask = drawn()
    for place, tile in enumerate(dataset.tiles):
        got_image, got_mask = (values.numpy() for values in dataset[place])
        # Moved inward from the edges, 80 px down and 150 px to the right.
        top, left = min(tile.row_off, 80 - 64), min(tile.col_off, 150 - 64)
        assert np.array_equal(got_image, image[:, top : top + 64, left : left + 64])
        wanted = np.full_like(mask, IGNORE_INDEX)
        rows = slice(tile.row_off, tile.row_off + tile.height)
        cols = slice(tile.col_off, tile.col_off + tile.width)
        wanted[rows, cols] = mask[rows, cols]
        assert np.array_equal(got_mask, wanted[top : top + 64, left : left + 64])
    assert {tile.height for tile in dataset.tiles} == {64, 16}  # edges were tested at all


def test_every_label_of_an_orthophoto_occurs_once_in_its_tiles(dataset):
    seen = np.concatenate([dataset[place][1].numpy().ravel() for place in range(len(dataset))])
    _, mask = drawn()
    for class_id in (0, 1):
        assert np.count_nonzero(seen == class_id) == np.count_nonzero(mask == class_id)


def test_a_tile_of_an_orthophoto_smaller_than_it_is_mirrored_without_labels(small):
    image, mask = drawn(3, 40, 50)
    got_image, got_mask = (values.numpy() for values in small[0])
    assert (got_image.shape, got_mask.shape) == ((3, SIZE, SIZE), (SIZE, SIZE))
    assert np.array_equal(got_image[:, :40, :50], image)
    assert np.array_equal(got_image[:, 40:, :50], image[:, : 40 - SIZE - 1 : -1])
    assert np.array_equal(got_image[:, :, 50:], got_image[:, :, 49 : 99 - SIZE : -1])
    assert np.array_equal(got_mask[:40, :50], mask)
    assert (got_mask[40:] == IGNORE_INDEX).all()
    assert (got_mask[:, 50:] == IGNORE_INDEX).all()


def test_whole_tiles_come_in_their_order_each_once_with_any_batch_size(dataset):
    for batch_size in (1, 4, 6, 9):
        batches = list(tile_loader(dataset, batch_size))
        images, masks = (torch.cat(part) for part in zip(*batches, strict=True))
        assert (images.dtype, masks.dtype) == (torch.uint8, torch.uint8)
        assert len(images) == 6
        for place in range(6):
            assert torch.equal(images[place], dataset[place][0])
            assert torch.equal(masks[place], dataset[place][1])


def test_a_missing_raster_is_named(folder, tiles, tmp_path):
    dataset = TileDataset(tiles, folder / "images", tmp_path, SIZE)
    with pytest.raises(FileNotFoundError, match=r"sheet\.tif does not exist"):
        dataset[0]


def test_a_dataset_that_was_read_from_can_be_sent_to_another_process(dataset):
    wanted = dataset[3]
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[3][0], wanted[0])


# Crops


@pytest.mark.parametrize("crop_px", [32, 64])
def test_crops_lie_in_the_orthophoto_unpadded_with_all_its_labels_on_their_pixels(dataset, crop_px):
    _, wanted = drawn()
    crops = CropDataset(dataset, Augmentation(crop_px, AugmentationLevel(), 3), seed=1)
    for epoch in range(5):
        for number in range(len(crops)):
            image, mask = (values.numpy() for values in crops[epoch, number])
            assert (image.shape, mask.shape) == ((3, crop_px, crop_px), (crop_px, crop_px))
            assert image.all()  # 0 is padding
            assert np.array_equal(mask, wanted[image[0] - 1, image[1] - 1])


@pytest.mark.parametrize("crop_px", [32, 64])
def test_a_crop_is_mirrored_without_labels_and_only_where_the_orthophoto_is_smaller(small, crop_px):
    _, wanted = drawn(3, 40, 50)
    crops = CropDataset(small, Augmentation(crop_px, AugmentationLevel(), 3), seed=1)
    for epoch in range(10):
        image, mask = (values.numpy() for values in crops[epoch, 0])
        rows, cols = image[0] - 1, image[1] - 1  # where each pixel comes from
        assert image.all()  # nothing is black
        labelled = mask != IGNORE_INDEX
        assert np.array_equal(mask[labelled], wanted[rows[labelled], cols[labelled]])
        seen = np.zeros(wanted.shape, int)
        np.add.at(seen, (rows[labelled], cols[labelled]), 1)
        assert seen.max() == 1  # no label was mirrored
        here = np.unique(np.stack([rows.ravel(), cols.ravel()]), axis=1)
        assert len(here[0]) == (1024 if crop_px == 32 else 2000)
        assert (wanted[*here] != IGNORE_INDEX).sum() == labelled.sum()  # and none was lost


def test_with_zoom_crops_show_from_half_to_twice_their_size_of_ground_and_no_padding(dataset):
    crops = CropDataset(dataset, Augmentation(32, AugmentationLevel(), 3), seed=1, zoom=2)
    spans = []
    for epoch in range(20):
        for number in range(len(crops)):
            image, mask = (values.numpy() for values in crops[epoch, number])
            assert (image.shape, mask.shape) == ((3, 32, 32), (32, 32))
            assert image.all()
            assert (mask != IGNORE_INDEX).any()
            rows, cols = image[0].astype(int), image[1].astype(int)
            spans.append((np.ptp(rows) + 1, np.ptp(cols) + 1))
    rows, cols = np.array(spans).T
    assert (np.abs(rows - cols) <= 2).all()  # the scale is the same along both sides
    assert 15 <= rows.min() < 18
    assert 60 < rows.max() <= 64
    assert 0.4 < (rows < 32).mean() < 0.6


@pytest.mark.parametrize(("workers", "crop_px"), [(0, 32), (2, 32), (0, 72)])
def test_clicks_come_with_crops_on_their_pixels_and_change_nothing_else(tmp_path, workers, crop_px):
    """Also where the orthophoto is smaller than what a crop shows, and is mirrored."""
    image, mask = drawn()
    rows, cols = np.indices(mask.shape)
    clicks = np.where((rows + 2 * cols) % 4 == 0, mask, IGNORE_INDEX)
    tiles = write_orthophoto(tmp_path, "sheet", image, mask, SIZE)
    write_orthophoto(tmp_path / "clicked", "sheet", image, clicks, SIZE)
    folders = tmp_path / "images", tmp_path / "masks"
    with_clicks = TileDataset(tiles, *folders, SIZE, tmp_path / "clicked" / "masks")
    loaders = [
        make_loader(dataset, workers=workers, crop_px=crop_px, zoom=1.3, colours=False)
        for dataset in (TileDataset(tiles, *folders, SIZE), with_clicks)
    ]
    passes = [next(read_epochs(loader, (1,)))[1] for loader in loaders]
    for (images, masks), (same, also, clicked) in zip(*passes, strict=True):
        assert torch.equal(images, same)
        assert torch.equal(masks, also)
        labelled = (clicked != IGNORE_INDEX) & (masks != IGNORE_INDEX)
        assert torch.equal(clicked[labelled], masks[labelled])
        assert 0.4 < labelled.sum() / (clicked != IGNORE_INDEX).sum() <= 1
        # One label in four was clicked.
        assert 0.1 < labelled.sum() / (masks != IGNORE_INDEX).sum() < 0.5


def remember_places(dataset):
    """Return a list that grows by the place of each tile that is read."""
    places = []
    dataset.read_around = lambda place, side_px: (
        places.append(place) or TileDataset.read_around(dataset, place, side_px)
    )
    return places


@pytest.mark.parametrize(
    ("crop_px", "least", "most"),
    [
        # 64 × 64, 64 × 64, 64 × 22, then 16 × 64, 16 × 64, 16 × 22 px, 12,000 px in all.
        (32, [4, 4, 1, 0, 0, 0], [5, 5, 2, 2, 2, 1]),
        (64, [0, 0, 0, 0, 0, 0], [2, 2, 1, 1, 1, 1]),
    ],
)
def test_tiles_take_turns_by_area_and_none_is_left_out_for_long(dataset, crop_px, least, most):
    crops = CropDataset(dataset, Augmentation(crop_px, AugmentationLevel(), 3), seed=1)
    assert len(crops) == round(12_000 / crop_px**2)
    places = remember_places(dataset)
    for epoch in range(200):
        for number in range(len(crops)):
            crops[epoch, number]
    epochs = np.array([np.bincount(p, minlength=6) for p in np.reshape(places, (200, -1))])
    assert (epochs.min(axis=0) >= least).all()
    assert (epochs.max(axis=0) <= most).all()
    fractions = np.array([4096, 4096, 1408, 1024, 1024, 352]) / 12_000
    np.testing.assert_allclose(epochs.mean(axis=0), fractions * len(crops), atol=0.1)


def test_tiles_of_whole_crops_are_each_covered_once_in_every_epoch(tmp_path):
    image, mask = drawn(3, 64, 192)
    tiles = write_orthophoto(tmp_path, "sheet", image, mask, SIZE)
    dataset = TileDataset(tiles, tmp_path / "images", tmp_path / "masks", SIZE)
    crops = CropDataset(dataset, Augmentation(32, AugmentationLevel(), 3), seed=1)
    places = remember_places(dataset)
    for epoch in range(20):
        places.clear()
        for number in range(len(crops)):
            crops[epoch, number]
        assert places == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_each_orthophoto_gets_one_crop_however_small_it_is():
    tiles = [tile_of("a", 10, ()), tile_of("b", 20, ()), tile_of("c", 64, ()), tile_of("c", 32, ())]
    assert crops_of(tiles, 32).tolist() == [1, 1, 4, 1]
    assert crops_of(tiles, 64).tolist() == [1, 1, 0.8, 0.2]
    assert crops_of([], 64).size == 0


def tile_of(region, side_px, pixels):
    return Tile(f"{region}_{side_px}", region, region, "train", 0, 0, side_px, side_px, pixels)


def test_shares_give_each_region_as_many_crops_and_its_tiles_by_area():
    tiles = [tile_of("a", 10, (1, 0)), tile_of("a", 20, (1, 0)), tile_of("b", 30, (0, 1))]
    assert tile_weights(tiles, "region").tolist() == [0.1, 0.4, 0.5]
    assert tile_weights(tiles, "none") == pytest.approx([1 / 14, 4 / 14, 9 / 14])


def test_shares_give_each_class_as_many_crops_by_its_labels_and_none_to_one_without_labels():
    tiles = [tile_of("a", 10, (6, 0, 0)), tile_of("a", 20, (2, 0, 0)), tile_of("b", 30, (0, 0, 5))]
    assert tile_weights(tiles, "class") == pytest.approx([3 / 8, 1 / 8, 1 / 2])


@pytest.mark.parametrize("balance", ["region", "class"])
def test_balanced_crops_come_from_tiles_by_their_shares_and_the_same_ones_again(
    folder, tiles, balance
):
    # One tile is a region of its own and alone has class 1.
    tiles = [
        Tile(**vars(tile) | {"region": "b" if k == 0 else "a", "pixels": (int(k > 0), int(k == 0))})
        for k, tile in enumerate(tiles)
    ]
    dataset = TileDataset(tiles, folder / "images", folder / "masks", SIZE)
    crops = CropDataset(dataset, Augmentation(32, AugmentationLevel(), 3), seed=1, balance=balance)
    assert len(crops) == len(CropDataset(dataset, Augmentation(32, AugmentationLevel(), 3), seed=1))
    places = remember_places(dataset)
    draws = [(epoch, number) for epoch in range(50) for number in range(len(crops))]
    first = [crops[draw][1] for draw in draws]
    assert np.mean(np.array(places) == 0) == pytest.approx(0.5, abs=0.07)
    assert all(torch.equal(crops[draw][1], mask) for draw, mask in zip(draws, first, strict=True))


@pytest.mark.parametrize("bands", [1, 4])
def test_tiles_with_other_than_three_bands_are_read_and_augmented(tmp_path, bands):
    image, mask = drawn(bands, 64, 128)
    tiles = write_orthophoto(tmp_path, "sheet", image, mask, SIZE)
    dataset = TileDataset(tiles, tmp_path / "images", tmp_path / "masks", SIZE)
    for images, masks in epochs_of(make_loader(dataset, bands=bands, batch_size=2), 1, 2):
        assert images.shape == (2, bands, 32, 32)
        assert masks.shape == (2, 32, 32)
        labels = masks[masks != IGNORE_INDEX]
        assert 0 < len(labels) < masks.numel() / 2
        assert labels.max() <= 1


# Epochs


def test_workers_change_nothing(dataset):
    dataset[0]  # a file that is open before workers start
    alone = epochs_of(make_loader(dataset), 1, 2)
    assert are_equal(epochs_of(make_loader(dataset, workers=2), 1, 2), alone)


def test_workers_read_whole_tiles_in_their_order_each_epoch(dataset):
    dataset[0]
    alone = list(tile_loader(dataset, 3))
    beside = tile_loader(dataset, 3, workers=2)
    assert are_equal(list(beside), alone)
    assert are_equal(list(beside), alone)


@pytest.mark.parametrize(
    ("asked", "device", "processes", "wanted"),
    [
        ("auto", "cpu", 1, 0),
        ("auto", "cuda", 1, 15),
        ("auto", "cuda", 4, 3),
        ("auto", "cuda", 32, 0),
        (5, "cpu", 1, 5),
        (0, "cuda", 1, 0),
    ],
)
def test_beside_a_gpu_the_cores_read_and_on_a_cpu_they_compute(
    monkeypatch, asked, device, processes, wanted
):
    monkeypatch.setattr(devices, "cpu_count", lambda: 16)
    fabric = SimpleNamespace(device=torch.device(device), world_size=processes)
    assert devices.count_readers(asked, fabric) == wanted


def test_the_same_seed_gives_the_same_batches_whatever_the_global_generators_hold(dataset):
    wanted = epochs_of(make_loader(dataset, seed=5), 1, 2)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert are_equal(epochs_of(make_loader(dataset, seed=5), 1, 2), wanted)
    assert not are_equal(epochs_of(make_loader(dataset, seed=6), 1, 2), wanted)


def test_an_epoch_can_be_drawn_again_without_those_before_it(dataset):
    wanted = epochs_of(make_loader(dataset), 1, 2, 3)
    per_epoch = len(wanted) // 3
    assert are_equal(epochs_of(make_loader(dataset), 3), wanted[-per_epoch:])


def test_no_two_epochs_and_no_two_samples_are_augmented_alike(tmp_path):
    # Tiles that are all the same: what differs, differs by augmentation.
    image, mask = drawn(3, 64, 64)
    tiles = [
        tile
        for number in range(4)
        for tile in write_orthophoto(tmp_path, f"sheet{number}", image, mask, SIZE)
    ]
    dataset = TileDataset(tiles, tmp_path / "images", tmp_path / "masks", SIZE)
    batches = epochs_of(make_loader(dataset, batch_size=4), 1, 2, 3)
    samples = [images[i].numpy().tobytes() for images, _ in batches for i in range(len(images))]
    assert len(samples) == 3 * 4 * 4
    assert len(set(samples)) == len(samples)


def test_sample_seeds_do_not_collide_and_fit_32_bits():
    seeds = {
        sample_seed(seed, epoch, number)
        for seed in range(3)
        for epoch in range(30)
        for number in range(-1, 100)
    }
    assert len(seeds) >= 3 * 30 * 101 - 2  # two in 4 billion may
    assert min(seeds) >= 0
    assert max(seeds) < 2**32


@given(length=st.integers(2, 60), batch_size=st.integers(2, 12), epoch=st.integers(0, 50))
def test_an_epoch_has_each_sample_once_but_a_last_batch_of_one(length, batch_size, epoch):
    batches = EpochBatches(length, batch_size, seed=3)
    batches.epochs = [epoch]
    drawn = list(batches)
    assert len(drawn) == len(batches)
    assert all(1 < len(batch) <= batch_size for batch in drawn)
    assert all(len(batch) == batch_size for batch in drawn[:-1])
    assert {number for batch in drawn for number, _ in batch} <= {epoch}
    numbers = [number for batch in drawn for _, number in batch]
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(range(length))
    assert len(numbers) == batches.samples == length - (length % batch_size == 1)
    assert list(batches) == drawn
    batches.epochs = [epoch, epoch + 1]
    assert list(batches)[: len(drawn)] == drawn
    assert [batch[0][0] for batch in batches] == sorted([epoch, epoch + 1] * len(drawn))


@given(
    length=st.integers(2, 60),
    batch_size=st.integers(6, 12),
    ranks=st.integers(1, 3),
    epoch=st.integers(0, 50),
)
def test_ranks_share_the_batches_of_one_with_two_samples_at_least(length, batch_size, ranks, epoch):
    parts = []
    for rank in range(ranks):
        batches = EpochBatches(length, batch_size, seed=3)
        batches.epochs, batches.rank, batches.ranks = [epoch], rank, ranks
        parts.append(list(batches))
        assert len(parts[-1]) == len(batches)
        assert all(len(part) >= 2 for part in parts[-1])
    whole = EpochBatches(length, batch_size, seed=3)
    whole.epochs = [epoch]
    shared = [
        sorted(draw for part in of_batch for draw in part) for of_batch in zip(*parts, strict=True)
    ]
    assert shared == [sorted(batch) for batch in whole][: len(shared)]
    assert len(whole) - len(shared) == (1 < length % batch_size < 2 * ranks)
    assert batches.samples == sum(map(len, shared))


def test_the_order_changes_with_epoch_and_seed():
    def order(seed, epoch):
        batches = EpochBatches(40, 8, seed)
        batches.epochs = [epoch]
        return [number for batch in batches for _, number in batch]

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(one) for one in orders}) == 9


def test_a_tile_set_with_one_crop_an_epoch_is_refused_with_what_to_do(folder, tiles):
    dataset = TileDataset(tiles[:1], folder / "images", folder / "masks", SIZE)
    with pytest.raises(ValueError, match=r"1 crop\(s\).*two or more.*halve train\.crop_px"):
        make_loader(dataset, crop_px=64)
    assert len(make_loader(dataset, crop_px=32, batch_size=2)) == 2


def test_a_tile_set_without_tiles_is_refused(folder):
    dataset = TileDataset([], folder / "images", folder / "masks", SIZE)
    with pytest.raises(ValueError, match=r"0 crop\(s\).*add train tiles"):
        make_loader(dataset)
