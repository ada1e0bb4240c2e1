"""What is counted tile by tile is what the whole orthophoto would give."""

import numpy as np
import pytest
import torch

from pointcover.evaluation.accumulate import ScoredTiles, Scoring, SplitCounts, count_tiles
from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.boundaries import count_boundaries, erode_classes
from pointcover.metrics.calibration import count_confidences
from pointcover.metrics.confusion import confusion_matrix
from tests.metrics.test_boundaries import areas
from tests.tile_sets import write_orthophoto

N = IGNORE_INDEX


def scored_whole(folder, mask, size_px, **options):
    """The masks of all tiles, put together again, and how often each pixel occurs."""
    image = np.zeros((3, *mask.shape), np.uint8)
    image[0] = np.arange(mask.shape[1]) % 256
    tiles = write_orthophoto(folder, "o", image, mask, size_px, "test")
    dataset = ScoredTiles(tiles, folder / "images", folder / "masks", size_px, Scoring(**options))
    whole, times = np.full(mask.shape, N, np.uint8), np.zeros(mask.shape, int)
    for place, tile in enumerate(tiles):
        picture, labels = dataset[place]
        assert labels.shape == (size_px, size_px)
        rows, cols = np.nonzero(labels.numpy() != N)
        # Where a tile's pixels lie is told by the image, whose first band counts columns.
        shift = int(picture[0, 0, 0])
        top = max(0, min(tile.row_off - (size_px - tile.height) // 2, mask.shape[0] - size_px))
        whole[rows + top, cols + shift] = labels.numpy()[rows, cols]
        times[rows + top, cols + shift] += 1
    return whole, times


@pytest.mark.parametrize("erode_px", [0, 1, 3, 9])
def test_eroded_tiles_are_cut_from_an_eroded_orthophoto_each_pixel_once(erode_px, tmp_path):
    mask = areas(0, 4, (150, 170), unlabelled=0.05)
    whole, times = scored_whole(tmp_path, mask, 64, erode_px=erode_px)
    wanted = erode_classes(mask, erode_px)
    assert np.array_equal(whole, wanted)
    assert np.array_equal(times, wanted != N)


def test_an_orthophoto_smaller_than_a_tile_is_eroded(tmp_path):
    mask = areas(1, 3, (40, 30))
    whole, _ = scored_whole(tmp_path, mask, 64, erode_px=2)
    assert np.array_equal(whole, erode_classes(mask, 2))


def test_classes_that_are_left_out_are_unlabelled_but_still_bound_others(tmp_path):
    mask = areas(2, 4, (64, 64))
    whole, _ = scored_whole(tmp_path, mask, 64, left_out=[1, 3])
    assert np.array_equal(whole, np.where(np.isin(mask, [1, 3]), N, mask))
    (tmp_path / "e").mkdir()
    both, _ = scored_whole(tmp_path / "e", mask, 64, left_out=[1], erode_px=3)
    eroded = erode_classes(mask, 3)
    assert np.array_equal(both, np.where(eroded == 1, N, eroded))


def tile_of(number, region):
    from pointcover.tileset.tiles import Tile

    return Tile(f"t_{number}", "t", region, "test", 0, 0, 32, 32, (1, 1))


def predicted_of(count, batch_size):
    """Random batches, and all of them at once."""
    generator = torch.Generator().manual_seed(count)
    shape = (count, 32, 32)
    masks = torch.randint(0, 3, shape, generator=generator, dtype=torch.uint8)
    masks[torch.rand(shape, generator=generator) < 0.2] = N
    predictions = torch.randint(0, 3, shape, generator=generator, dtype=torch.uint8)
    confidence = torch.rand(shape, generator=generator)
    images = torch.zeros((count, 3, 32, 32), dtype=torch.uint8)
    everything = (images, masks, predictions, confidence)
    batches = zip(*(part.split(batch_size) for part in everything), strict=True)
    return list(batches), everything


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_counts_are_by_tile_and_add_up_to_the_split(batch_size):
    batches, (_, masks, predictions, confidence) = predicted_of(5, batch_size)
    counts = count_tiles(batches, [tile_of(k, "r") for k in range(5)], 3)
    for k in range(5):
        wanted = confusion_matrix(predictions[k], masks[k], 3).numpy()
        assert np.array_equal(counts.confusions[k], wanted)
    assert np.array_equal(counts.boundaries, count_boundaries(predictions, masks, 3).numpy())
    whole = count_confidences(confidence, predictions, masks).numpy()
    assert np.array_equal(counts.confidences, whole)


def test_without_boundaries_there_are_none():
    batches, _ = predicted_of(2, 2)
    counts = count_tiles(batches, [tile_of(k, "r") for k in range(2)], 3, with_boundaries=False)
    assert not counts.boundaries.any()
    assert counts.boundaries.shape == (2, 3, 3, 4)


def counts_of(confusions, regions=None):
    count = len(confusions)
    tiles = [tile_of(k, (regions or "a" * count)[k]) for k in range(count)]
    matrices = np.array(confusions, np.int64).reshape(count, 2, 2)
    return SplitCounts(
        tiles, matrices, np.zeros((count, 3, 2, 4), np.int64), np.zeros((2, 15360), int)
    )


def test_the_worst_tiles_are_those_of_lowest_accuracy_worst_first():
    counts = counts_of(
        [
            [[90, 10], [0, 0]],
            [[50, 50], [0, 0]],
            [[70, 15], [15, 0]],
            [[0, 50], [0, 50]],
            [[100, 0], [0, 0]],
        ]
    )
    assert counts.worst(2) == [1, 3]  # of equal ones the first
    assert counts.worst(9) == [1, 3, 2, 0]  # the last has no error
    assert counts.worst(0) == []
    assert counts.worst(2, without=[1]) == [3, 2]  # drawn already


def test_tiles_with_hardly_a_label_are_not_among_the_worst():
    assert counts_of([[[90, 10], [0, 0]], [[0, 9], [0, 0]], [[0, 0], [0, 0]]]).worst(3) == [0]
    assert counts_of([]).worst(3) == []
    assert counts_of([[[0, 0], [0, 0]]]).worst(3) == []


def test_regions_hold_their_tiles_in_order_of_occurrence():
    counts = counts_of([[[1, 0], [0, 0]]] * 4, "baba")
    assert counts.regions() == {"b": [0, 2], "a": [1, 3]}
