"""Tiles hold every pixel of their orthophoto once; a mask says nothing where there is no data."""

import json
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS as Crs
from rasterio.enums import ColorInterp
from rasterio.errors import NodataShadowWarning
from rasterio.transform import from_origin
from rasterio.windows import Window

from pointcover.datasets.card import Pair
from pointcover.tileset.tiles import Tile, TileReader, raster_path, read_index
from pointcover.tiling.cutting import (
    Cutting,
    CuttingPlan,
    Statistics,
    cut_orthophoto,
    shrink_image,
    shrink_mask,
)
from tests.imagery import (
    CARD,
    CRS,
    PLACE,
    draw_image,
    draw_mask,
    make_card,
    place_by_points,
    read_tree,
    tile_settings,
    write_raster,
)
from tests.processes import run_python

COLOURS = {0: (0x84, 0x29, 0xF6), 1: (0xE2, 0xA9, 0x29), 2: (0x3C, 0x10, 0x98), 255: (0, 0, 0)}


def cut(folder, image="image.tif", mask="mask.tif", size_px=64, downsample=1, side="train", **card):
    """Cut the pair in a folder into folder/out."""
    pair, splits = Pair("a", "region", image, mask), {"region": side}
    settings = tile_settings(size_px, downsample)
    plan = CuttingPlan(make_card(**card), folder, folder / "out", splits, settings)
    return cut_orthophoto(plan, pair)


def read_cut(folder, kind, side="train"):
    with rasterio.open(raster_path(folder / "out" / kind, side, "a")) as file:
        return file.read()


def write_image_and_mask(folder, image, mask, **options):
    write_raster(folder / "image.tif", image, **options)
    write_raster(folder / "mask.tif", mask)


@settings(max_examples=20)
@given(height=st.integers(1, 150), width=st.integers(1, 150), seed=st.integers(0, 9))
def test_tiles_of_any_raster_cover_it_once_and_hold_its_pixels_and_padding(height, width, seed):
    image, mask = draw_image(height, width, seed), draw_mask(height, width, seed)
    mask[0, 0] = 1  # a mask of one unlabelled pixel would be refused
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image_and_mask(folder, image, mask)
        tiles = cut(folder).tiles
        images = TileReader(folder / "out" / "images", 64, fill=0)
        masks = TileReader(folder / "out" / "masks", 64, fill=255)
        assert [tile.id for tile in tiles] == [f"a_{k}" for k in range(len(tiles))]
        places = [(tile.row_off, tile.col_off) for tile in tiles]
        assert places == [(r, c) for r in range(0, height, 64) for c in range(0, width, 64)]
        assert sum(tile.height * tile.width for tile in tiles) == height * width
        padded_image, padded_mask = np.zeros((3, 256, 256)), np.full((256, 256), 255)
        padded_image[:, :height, :width], padded_mask[:height, :width] = image, mask
        for tile, (row, col) in zip(tiles, places, strict=True):
            place = (slice(row, row + 64), slice(col, col + 64))
            assert np.array_equal(images.read(tile), padded_image[:, *place])
            assert np.array_equal(masks.read(tile)[0], padded_mask[place])
            assert tile.pixels == tuple((padded_mask[place] == c).sum() for c in range(3))


def test_the_files_open_anywhere_as_blocks_on_the_orthophotos_grid(tmp_path):
    write_image_and_mask(tmp_path, draw_image(100, 130), draw_mask(100, 130))
    cut(tmp_path)
    for kind, bands, nodata in (("images", 3, None), ("masks", 1, 255)):
        with rasterio.open(raster_path(tmp_path / "out" / kind, "train", "a")) as file:
            assert (file.count, file.height, file.width) == (bands, 100, 130)
            assert (file.crs, file.transform, file.nodata) == (CRS, PLACE, nodata)
            assert set(file.block_shapes) == {(64, 64)}
    with rasterio.open(raster_path(tmp_path / "out" / "masks", "train", "a")) as file:
        assert [file.colormap(1)[i][:3] for i in range(3)] == [COLOURS[i] for i in range(3)]


def test_downsampling_halves_the_grid_and_doubles_the_pixels_size(tmp_path):
    image, mask = draw_image(101, 130), draw_mask(101, 130)
    write_image_and_mask(tmp_path, image, mask)
    cutting = cut(tmp_path, downsample=2)
    assert cutting.gsds_m == {0.5}
    assert sum(tile.height * tile.width for tile in cutting.tiles) == 50 * 65
    with rasterio.open(raster_path(tmp_path / "out" / "images", "train", "a")) as file:
        assert (file.height, file.width) == (50, 65)
        assert file.transform == from_origin(500_000, 600_000, 0.5, 0.5)
        # Means of four, within the rounding of a half
        means = sum(image[:, r:100:2, c::2].astype(float) for r in (0, 1) for c in (0, 1)) / 4
        assert np.abs(file.read() - means).max() <= 0.5
    block = mask[10:12, 20:22].ravel().tolist()
    assert read_cut(tmp_path, "masks")[0, 5, 10] == min(block, key=lambda v: (-block.count(v), v))


def write_half(path, nodata=None):
    """Write a mask of two blocks, of which the second was never written."""
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True}
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 64, "width": 128}
    profile |= {"crs": CRS, "transform": PLACE, "nodata": nodata}
    with rasterio.open(path, "w", **profile, **options) as file:
        file.write(np.ones((1, 64, 64), np.uint8), window=Window(0, 0, 64, 64))


def test_blocks_of_a_mask_that_were_never_written_are_no_class(tmp_path):
    write_raster(tmp_path / "image.tif", draw_image(64, 128))
    write_half(tmp_path / "mask.tif")
    with pytest.raises(
        ValueError, match=r"row 0, column 64 was never .* as class 'land'"
    ) as caught:
        cut(tmp_path)
    assert "gdal_translate -co COMPRESS=DEFLATE IN OUT" in str(caught.value)
    rasterio.shutil.copy(tmp_path / "mask.tif", tmp_path / "whole.tif", compress="deflate")
    cut(tmp_path, mask="whole.tif")
    assert (read_cut(tmp_path, "masks")[0, :, 64:] == 0).all()
    write_half(tmp_path / "mask.tif", nodata=255)
    cut(tmp_path)
    assert (read_cut(tmp_path, "masks")[0, :, 64:] == 255).all()


def test_a_mask_of_ids_in_three_bands_that_differ_is_refused(tmp_path):
    mask = np.stack([draw_mask(64, 64, seed) for seed in range(3)])
    write_image_and_mask(tmp_path, draw_image(64, 64), mask)
    with pytest.raises(ValueError, match="the bands differ, wanted one band of ids"):
        cut(tmp_path)


def test_half_a_block_without_data_gives_no_label(tmp_path):
    image, mask = np.full((3, 2, 4), 100, np.uint8), np.ones((2, 4), np.uint8)
    image[:, 0, :2] = 0
    write_image_and_mask(tmp_path, image, mask, nodata=0)
    cut(tmp_path, downsample=2)
    assert read_cut(tmp_path, "images")[0].tolist() == [[0, 100]]
    assert read_cut(tmp_path, "masks")[0].tolist() == [[255, 1]]


def test_mean_and_std_are_those_of_all_train_pixels(tmp_path):
    image = draw_image(100, 130) // np.array([1, 2, 3], np.uint8)[:, None, None]
    write_image_and_mask(tmp_path, image, draw_mask(100, 130))
    cutting = cut(tmp_path)
    assert cutting.train.mean() == pytest.approx(image.mean(axis=(1, 2)))
    assert cutting.train.std() == pytest.approx(image.std(axis=(1, 2)))
    assert not cut(tmp_path, side="test").train.counts.any()


def test_pixels_without_data_count_in_no_statistic(tmp_path):
    image = draw_image(80, 90)
    image[:, :40] = 0
    write_image_and_mask(tmp_path, image, draw_mask(80, 90), nodata=0)
    cutting = cut(tmp_path)
    assert cutting.train.mean() == pytest.approx(image[:, 40:].mean(axis=(1, 2)))
    assert cutting.train.std() == pytest.approx(image[:, 40:].std(axis=(1, 2)))


def test_a_constant_band_has_a_standard_deviation_to_divide_by():
    statistics = Statistics()
    with pytest.raises(ValueError, match="no pixel of the train split holds data"):
        statistics.mean()
    statistics.add(np.full((1, 2, 2), 7, np.uint8), np.ones((2, 2), bool))
    assert (statistics.mean(), statistics.std()) == ((7.0,), (1.0,))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is looked up in /proc")
@pytest.mark.slow
def test_cutting_holds_a_few_rows_of_tiles_at_a_time(tmp_path):
    megabytes = 60
    image = np.broadcast_to(np.uint8([[[9]], [[8]], [[7]]]), (3, megabytes * 1000, 333))
    write_image_and_mask(tmp_path, image, np.ones(image.shape[1:], np.uint8), compress="zstd")
    done = run_python(
        """
        import os, re, sys
        from pathlib import Path
        os.environ["GDAL_CACHEMAX"] = "4"
        from tests.tiling.test_cutting import cut, draw_image, draw_mask, write_image_and_mask

        def peak_mb():
            status = Path("/proc/self/status").read_text()
            return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024

        folder = Path(sys.argv[1])
        (folder / "small").mkdir()
        write_image_and_mask(folder / "small", draw_image(300, 333), draw_mask(300, 333))
        cut(folder / "small", size_px=128)
        before = peak_mb()
        assert len(cut(folder, size_px=128).tiles) > 1000
        print(peak_mb() - before)
        """,
        str(tmp_path),
    )
    assert float(done.stdout) < megabytes / 3, done.stderr


# How masks are coded


@pytest.mark.parametrize("driver", ["PNG", "GTiff"])
def test_a_palette_mask_and_an_rgb_mask_of_the_same_colours_are_cut_alike(tmp_path, driver):
    mask = draw_mask(70, 80)
    write_raster(tmp_path / "image.tif", draw_image(70, 80))
    table = np.zeros((256, 3), np.uint8)
    for class_id, colour in COLOURS.items():
        table[class_id] = colour
    # In the file, class 2 is index 0, class 0 is index 1, class 1 is index 2
    order = [2, 0, 1, 255]
    indexes = np.searchsorted(np.sort(order), mask).astype(np.uint8)
    indexes = np.array([1, 2, 0, 3], np.uint8)[indexes]
    write_raster(
        tmp_path / "palette",
        indexes,
        driver=driver,
        crs=None,
        transform=None,
        palette={index: COLOURS[class_id] for index, class_id in enumerate(order)},
    )
    write_raster(
        tmp_path / "rgb",
        table[mask].transpose(2, 0, 1),
        driver=driver,
        crs=None,
        transform=None,
    )
    for name in ("palette", "rgb"):
        cut(tmp_path, mask=name, mask_values="colours", ignore=["#000000"])
        assert np.array_equal(read_cut(tmp_path, "masks")[0], mask)


def test_ids_with_values_of_their_own_are_read_by_them_and_ignored_ones_are_unlabelled(tmp_path):
    values = np.array([[10, 300, 7, 99]], np.uint16)
    write_raster(tmp_path / "image.tif", draw_image(1, 4))
    write_raster(tmp_path / "mask.tif", values)
    pairs = zip(CARD["classes"], (300, 7, 10), strict=True)
    classes = [entry | {"value": value} for entry, value in pairs]
    cut(tmp_path, classes=classes, ignore=[99])
    assert read_cut(tmp_path, "masks").tolist() == [[[2, 0, 1, 255]]]


def test_a_masks_own_nodata_is_unlabelled_unless_it_is_a_class(tmp_path):
    write_raster(tmp_path / "image.tif", draw_image(1, 3))
    write_raster(tmp_path / "mask.tif", np.array([[0, 1, 77]], np.uint8), nodata=77)
    cut(tmp_path)
    assert read_cut(tmp_path, "masks").tolist() == [[[0, 1, 255]]]
    write_raster(tmp_path / "mask.tif", np.array([[0, 1, 2]], np.uint8), nodata=0)
    cut(tmp_path)
    assert read_cut(tmp_path, "masks").tolist() == [[[0, 1, 2]]]


def test_id_masks_of_several_bands_must_agree(tmp_path):
    write_raster(tmp_path / "image.tif", draw_image(4, 4))
    mask = np.ones((3, 4, 4), np.uint8)
    write_raster(tmp_path / "mask.tif", mask)
    cut(tmp_path)
    assert (read_cut(tmp_path, "masks") == 1).all()
    mask[2, 3, 3] = 2
    write_raster(tmp_path / "mask.tif", mask)
    with pytest.raises(ValueError, match=r"mask\.tif \(rows 0 to 4\): the bands differ"):
        cut(tmp_path)


# Bands, depth, missing data


def test_bands_are_taken_in_the_cards_order_and_scaled_from_its_range(tmp_path):
    values = np.array([0, 99, 100, 1100, 2100, 65535], np.uint16)
    image = np.stack([np.full(6, 100), np.full(6, 600), values, values[::-1]])[:, None]
    write_image_and_mask(tmp_path, image.astype(np.uint16), np.ones((1, 6), np.uint8))
    cut(tmp_path, bands=[4, 3, 2], value_range=[100, 2100])
    # (v - 100) · 255 / 2000: below 0, at 1100 127.5 (halves to even: 128), above 255
    scaled = [0, 0, 0, 128, 255, 255]
    assert read_cut(tmp_path, "images")[:, 0].tolist() == [scaled[::-1], scaled, [64] * 6]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_images_of_more_bits_that_hold_0_to_255_are_taken_as_they_are_when_the_card_says_so(
    tmp_path, dtype
):
    values = np.array([[0, 1, 127, 254, 255, 300]], dtype)
    write_image_and_mask(tmp_path, np.stack([values] * 3), np.ones((1, 6), np.uint8))
    cut(tmp_path, value_range=[0, 255])
    assert read_cut(tmp_path, "images")[0].tolist() == [[0, 1, 127, 254, 255, 255]]


def test_masks_saved_with_loss_are_read_as_black_and_white_about_a_threshold(tmp_path):
    write_raster(tmp_path / "image.tif", draw_image(1, 6))
    classes = [
        entry | {"value": value} for entry, value in zip(CARD["classes"], (255, 0), strict=False)
    ]
    write_raster(tmp_path / "mask.tif", np.array([[0, 9, 127, 128, 250, 255]], np.uint8))
    cut(tmp_path, classes=classes, ignore=[], binarise_at=128)
    assert read_cut(tmp_path, "masks").tolist() == [[[1, 1, 1, 0, 0, 0]]]
    # Colours, channel by channel: yellow, cyan, black
    classes = [
        entry | {"colour": c}
        for entry, c in zip(CARD["classes"], ("#FFFF00", "#00FFFF"), strict=False)
    ]
    rgb = np.array(
        [[255, 250, 3, 0, 127], [240, 128, 255, 129, 0], [0, 9, 254, 128, 100]], np.uint8
    )
    write_raster(tmp_path / "image.tif", draw_image(1, 5))
    write_raster(tmp_path / "mask.tif", rgb[:, None])
    cut(tmp_path, classes=classes, mask_values="colours", ignore=["#000000"], binarise_at=128)
    assert read_cut(tmp_path, "masks").tolist() == [[[0, 0, 1, 1, 255]]]


RGBA = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
HOLE = (slice(10, 20), slice(30, 40))


def declare(path, colours):
    with rasterio.open(path, "r+") as file:
        file.colorinterp = colours


@settings(max_examples=20)
@given(
    order=st.permutations([1, 2, 3, 4, 5]),
    count=st.integers(1, 4),
    source=st.sampled_from(["none", "nodata", "alpha", "mask"]),
    downsample=st.sampled_from([1, 2]),
)
def test_validity_is_of_the_bands_that_are_read_in_any_order(order, count, source, downsample):
    """A further band has data in the hole, and is declared alpha unless it says where data is."""
    bands, mask, wanted = order[:count], np.ones((40, 50), np.uint8), np.ones((40, 50), np.uint8)
    if source != "none":
        wanted[HOLE] = 255
    image = draw_image(40, 50, bands=5)
    for band in bands:
        image[band - 1][HOLE] = 0
    colours = [ColorInterp.gray, *[ColorInterp.undefined] * 4]
    kind = order[-1] if source == "alpha" else bands[-1]
    colours[kind - 1] = ColorInterp.alpha
    if source == "alpha":
        image[kind - 1] = (wanted == 1) * 255
    options = {"nodata": 0} if source == "nodata" else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image_and_mask(folder, image, mask, **options)
        if source != "nodata":  # GDAL would take its alpha for the other's nodata
            declare(folder / "image.tif", colours)
        if source == "mask":
            with rasterio.open(folder / "image.tif", "r+") as file:
                file.write_mask(wanted == 1)
        cutting = cut(folder, bands=bands, downsample=downsample)
        assert np.array_equal(read_cut(folder, "masks")[0], wanted[::downsample, ::downsample])
        if downsample == 1:
            assert np.array_equal(read_cut(folder, "images"), image[[band - 1 for band in bands]])
    assert cutting.no_data == ({} if source == "none" else {"a": 0.05})


def test_a_fourth_band_that_the_card_names_is_data_and_one_that_it_does_not_name_is_doubted(
    tmp_path,
):
    image, mask = draw_image(40, 50, bands=4), np.ones((40, 50), np.uint8)
    image[3][HOLE] = 0  # water in near infrared; GDAL calls the fourth of four bands alpha
    mask[HOLE] = 2
    write_image_and_mask(tmp_path, image, mask)
    cutting = cut(tmp_path, bands=[1, 2, 3, 4])
    assert np.array_equal(read_cut(tmp_path, "masks")[0], mask)
    assert np.array_equal(read_cut(tmp_path, "images"), image)
    assert (cutting.no_data, cutting.warnings) == ({}, [])
    cutting = cut(tmp_path)
    assert cutting.no_data == {"a": 0.05}
    (warning,) = cutting.warnings
    assert "band 4 is declared alpha, so pixels where it is 0 have no data, but" in warning
    assert "name it in `bands` in the card if it is a band of the image, such as near" in warning
    image[3] = np.where(image[3] > 0, 255, 0)
    write_image_and_mask(tmp_path, image, mask)
    assert cut(tmp_path).warnings == []
    (warning,) = cut(tmp_path, bands=[1, 2, 3, 4]).warnings
    assert "holds 0 and 255 alone, but is read as data: leave it out of `bands`" in warning


@pytest.mark.parametrize("local", ["image", "mask"])
def test_a_crs_that_is_not_on_the_earth_is_said_and_the_other_is_kept(tmp_path, local):
    flair = Crs.from_wkt('LOCAL_CS["RGF93 / Lambert-93",UNIT["metre",1]]')
    for name, values in (("image", draw_image(40, 50)), ("mask", np.ones((40, 50), np.uint8))):
        options = {"crs": flair} if name == local else {}
        write_raster(tmp_path / f"{name}.tif", values, **options)
    (warning,) = cut(tmp_path).warnings
    assert (
        "have the CRS 'RGF93 / Lambert-93', which has no place on the Earth, and counts" in warning
    )
    with rasterio.open(raster_path(tmp_path / "out" / "images", "train", "a")) as file:
        assert (file.crs, file.transform) == (CRS, PLACE)


def test_ground_control_points_are_named_with_gdalwarp(tmp_path):
    write_image_and_mask(tmp_path, draw_image(40, 50), np.ones((40, 50), np.uint8))
    place_by_points(tmp_path / "image.tif", draw_image(40, 50))
    (warning,) = cut(tmp_path).warnings
    assert "image.tif is placed by ground control points alone, and has no transform" in warning
    assert "warp it with `gdalwarp -t_srs EPSG:<code> IN OUT`" in warning


@pytest.mark.parametrize("binarised", [False, True])
@pytest.mark.parametrize("how", ["ignore", "text", "nodata"])
def test_nan_in_a_mask_means_unlabelled_where_the_card_or_the_file_says_so(
    tmp_path, how, binarised
):
    write_raster(tmp_path / "image.tif", draw_image(3, 4))
    mask = np.full((3, 4), 255 if binarised else 1, np.float32)
    mask[1] = np.nan
    options = {"nodata": np.nan} if how == "nodata" else {}
    write_raster(tmp_path / "mask.tif", mask, **options)
    card = {"ignore": {"ignore": [float("nan")], "text": [".nan"], "nodata": []}[how]}
    if binarised:
        values = [{"name": "a", "colour": "#000000"}]
        card["classes"] = [*values, {"name": "b", "colour": "#FFFFFF", "value": 255}]
        card["binarise_at"] = 128
    cut(tmp_path, **card)
    assert read_cut(tmp_path, "masks")[0].tolist() == [[1] * 4, [255] * 4, [1] * 4]
    write_raster(tmp_path / "mask.tif", mask)
    with pytest.raises(ValueError, match=r"4 px are NaN, which is no class: .* add `\.nan` to the"):
        cut(tmp_path, **(card | {"ignore": []}))


def test_nodata_does_not_hide_an_alpha_band(tmp_path):
    image, mask = draw_image(40, 50, bands=4), np.ones((40, 50), np.uint8)
    image[3] = 255
    image[3][HOLE] = 0
    image[:3, 0] = 7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NodataShadowWarning)
        write_image_and_mask(tmp_path, image, mask, nodata=7)
    cut(tmp_path)
    wanted = mask.copy()
    wanted[HOLE] = wanted[0] = 255
    assert np.array_equal(read_cut(tmp_path, "masks")[0], wanted)


def test_pixels_without_data_are_black_and_unlabelled_whatever_says_so(tmp_path):
    hole = (slice(10, 20), slice(30, 40))
    mask = np.ones((40, 50), np.uint8)
    wanted = mask.copy()
    wanted[hole] = 255
    image = draw_image(40, 50)

    image[:, *hole] = 0
    write_image_and_mask(tmp_path, image, mask, nodata=0)
    cut(tmp_path)
    assert np.array_equal(read_cut(tmp_path, "masks")[0], wanted)

    image = draw_image(40, 50)
    alpha = ((wanted == 1) * 255).astype(np.uint8)
    write_image_and_mask(tmp_path, np.concatenate([image, alpha[None]]), mask)
    with rasterio.open(tmp_path / "image.tif", "r+") as file:
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    cut(tmp_path)
    assert np.array_equal(read_cut(tmp_path, "masks")[0], wanted)
    assert (read_cut(tmp_path, "images")[:, *hole] == 0).all()

    image = image.astype(np.float32)
    image[1][hole] = np.nan  # in one band
    write_image_and_mask(tmp_path, image, mask)
    cut(tmp_path, value_range=[0, 256])
    assert np.array_equal(read_cut(tmp_path, "masks")[0], wanted)
    assert (read_cut(tmp_path, "images")[:, *hole] == 0).all()


def test_blocks_of_an_image_that_were_never_written_have_no_data(tmp_path):
    image, mask = draw_image(64, 128), np.ones((64, 128), np.uint8)
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True}
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 64, "width": 128}
    profile |= {"crs": CRS, "transform": PLACE}
    write_raster(tmp_path / "mask.tif", mask)
    for nodata in (None, 0):  # GDAL reads them as nodata, where the file has such a value
        with rasterio.open(tmp_path / "image.tif", "w", **profile, **options, nodata=nodata) as f:
            f.write(image[:, :, :64], window=Window(0, 0, 64, 64))
        cutting = cut(tmp_path)
        assert (read_cut(tmp_path, "masks")[0] == 255).tolist() == [[False] * 64 + [True] * 64] * 64
        assert cutting.no_data == {"a": 0.5}
        assert ["blocks with 50.0% of its pixels were never" in d for d in cutting.warnings] == (
            [True] if nodata is None else []
        )


COLOUR_CARD = {
    "mask_values": "colours",
    "ignore": ["#FFFFFF"],
    "classes": [{"name": "dark", "colour": "#000000"}, {"name": "red", "colour": "#FF0000"}],
}


@pytest.mark.parametrize("hidden", [(0, 0, 0, 0), (9, 8, 7, 0)])
def test_transparent_pixels_of_a_mask_are_unlabelled_whatever_their_colour(tmp_path, hidden):
    """As programs export drawings (label-studio#2482)."""
    write_raster(tmp_path / "image.tif", draw_image(3, 4), crs=None, transform=None)
    mask = np.empty((3, 4, 4), np.uint8)
    mask[:] = np.array([(255, 0, 0, 255), hidden, (0, 0, 0, 255)])[:, np.newaxis]
    Image.fromarray(mask).save(tmp_path / "mask.png")
    cut(tmp_path, mask="mask.png", **COLOUR_CARD)
    assert read_cut(tmp_path, "masks")[0].tolist() == [[1] * 4, [255] * 4, [0] * 4]


@pytest.mark.parametrize("kind", ["colours", "ids", "grey"])
def test_a_few_transparent_pixels_of_a_large_mask_are_unlabelled(tmp_path, kind):
    """Wherever they are, also beside the windows in which images are sampled."""
    hole = (slice(180, 220), slice(180, 220))
    write_raster(tmp_path / "image.tif", draw_image(1000, 1000), crs=None, transform=None)
    mask = np.full((1000, 1000, 2 if kind == "grey" else 4), 255, np.uint8)
    mask[*hole, -1] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    black, white = ({"name": n, "colour": f"#{v * 3}"} for n, v in (("b", "00"), ("w", "FF")))
    card = {"classes": [black, white], "ignore": [], "mask_values": "colours"}
    if kind != "colours":
        card = {"classes": [black | {"value": 0}, white | {"value": 255}], "ignore": []}
    cut(tmp_path, mask="mask.png", **card)
    wanted = np.ones((1000, 1000), np.uint8)
    wanted[hole] = 255
    assert np.array_equal(read_cut(tmp_path, "masks")[0], wanted)


def test_alpha_that_equals_red_hides_colours(tmp_path):
    """Red and yellow are drawn on transparent black."""
    write_raster(tmp_path / "image.tif", draw_image(3, 4), crs=None, transform=None)
    mask = np.empty((3, 4, 4), np.uint8)
    mask[:] = np.array([(255, 0, 0, 255), (0, 0, 0, 0), (255, 255, 0, 255)])[:, np.newaxis]
    Image.fromarray(mask).save(tmp_path / "mask.png")
    names = {"none": "#000000", "red": "#FF0000", "yellow": "#FFFF00"}
    classes = [{"name": name, "colour": colour} for name, colour in names.items()]
    cut(tmp_path, mask="mask.png", classes=classes, ignore=[], mask_values="colours")
    assert read_cut(tmp_path, "masks")[0].tolist() == [[1] * 4, [255] * 4, [2] * 4]


def test_nan_that_is_hidden_is_no_class_to_name(tmp_path):
    write_raster(tmp_path / "image.tif", draw_image(3, 4))
    mask = np.ones((3, 4), np.float32)
    mask[1] = np.nan
    with rasterio.open(write_raster(tmp_path / "mask.tif", mask), "r+") as file:
        file.write_mask(np.isfinite(mask))
    cut(tmp_path)
    assert read_cut(tmp_path, "masks")[0].tolist() == [[1] * 4, [255] * 4, [1] * 4]
    mask[2, 0] = np.nan
    with rasterio.open(tmp_path / "mask.tif", "r+") as file:
        file.write(mask, 1)
    with pytest.raises(ValueError, match="1 px are NaN, which is no class"):
        cut(tmp_path)


@pytest.mark.parametrize("how", ["alpha", "mask"])
def test_ids_that_alpha_or_a_mask_hides_are_unlabelled(tmp_path, how):
    write_raster(tmp_path / "image.tif", draw_image(3, 4))
    ids, shown = np.ones((3, 4), np.uint8), np.array([255, 255, 0], np.uint8)
    ids[1:] = 0
    hides = np.broadcast_to(shown[:, np.newaxis], (3, 4))
    values = np.stack([ids, hides]) if how == "alpha" else ids[np.newaxis]
    with rasterio.open(write_raster(tmp_path / "mask.tif", values), "r+") as file:
        if how == "alpha":
            file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        else:
            file.write_mask(hides > 0)
    cut(tmp_path)
    assert read_cut(tmp_path, "masks")[0].tolist() == [[1] * 4, [0] * 4, [255] * 4]


@pytest.mark.parametrize("ids", [(0, 1), (0, 255)])
def test_four_equal_bands_of_ids_are_no_transparency(tmp_path, ids):
    """GDAL calls the fourth of four bands of 8 bits alpha."""
    write_raster(tmp_path / "image.tif", draw_image(2, 4))
    mask = np.broadcast_to(np.array(ids, np.uint8)[:, np.newaxis], (4, 2, 4))
    write_raster(tmp_path / "mask.tif", mask)
    names = [{"name": f"c{value}", "colour": f"#0000{value:02X}", "value": value} for value in ids]
    cut(tmp_path, classes=names, ignore=[])
    assert read_cut(tmp_path, "masks")[0].tolist() == [[0] * 4, [1] * 4]


@pytest.mark.parametrize("options", [{"scales": (2.0,)}, {"offsets": (1.0,)}])
def test_a_mask_whose_ids_gis_programs_show_otherwise_is_refused(tmp_path, options):
    """QGIS applies scale and offset, GDAL and rasterio do not (QGIS#47673, rasterio#2219)."""
    write_image_and_mask(tmp_path, draw_image(3, 4), np.ones((3, 4), np.uint8))
    with rasterio.open(tmp_path / "mask.tif", "r+") as file:
        for key, value in options.items():
            setattr(file, key, value)
    with pytest.raises(ValueError, match=r"mask\.tif has the scale .* QGIS shows other ids"):
        cut(tmp_path)


def test_ids_below_zero_and_a_nodata_value_of_another_type_are_read(tmp_path):
    """As in rasterio#1927 and rasterio#282."""
    mask = np.zeros((3, 4), np.int8)
    mask[1] = -1
    write_raster(tmp_path / "image.tif", draw_image(3, 4))
    for options, card in (({"nodata": -1}, {}), ({}, {"ignore": [-1]})):
        write_raster(tmp_path / "mask.tif", mask, **options)
        cut(tmp_path, **card)
        assert read_cut(tmp_path, "masks")[0].tolist() == [[0] * 4, [255] * 4, [0] * 4]
    bands = "".join(
        f'<PAMRasterBand band="{band}"><NoDataValue>-1.7e308</NoDataValue></PAMRasterBand>'
        for band in (1, 2, 3)
    )
    (tmp_path / "image.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    assert cut(tmp_path, ignore=[-1]).no_data == {}


@pytest.mark.parametrize(
    ("image", "card", "said"),
    [
        (draw_image(9, 9), {"value_range": [0, 1000]}, r"uint8, but `value_range` .* nearly black"),
        (-draw_image(9, 9).astype(np.int16), {"value_range": [0, 9000]}, "-1, and 100% of them"),
        (draw_image(9, 9, bands=1), {"bands": [1], "palette": {7: (1, 2, 3)}}, "a palette image"),
    ],
)
def test_an_image_that_would_be_black_white_or_numbers_is_refused(tmp_path, image, card, said):
    """As in raster-vision#1276 and torchgeo#517."""
    options = {"palette": card.pop("palette")} if "palette" in card else {}
    write_image_and_mask(tmp_path, image, np.ones((9, 9), np.uint8), **options)
    with pytest.raises(ValueError, match=rf"image\.tif .*{said}"):
        cut(tmp_path, **card)


@pytest.mark.parametrize("downsample", [1, 2])
def test_a_crs_without_a_transform_places_nothing(tmp_path, downsample):
    """The identity is no pixel of one metre (rasterio#1916, torchgeo#2190)."""
    for name, values in (("image", draw_image(8, 8)), ("mask", np.ones((8, 8), np.uint8))):
        write_raster(tmp_path / f"{name}.tif", values, transform=None)
    cutting = cut(tmp_path, downsample=downsample)
    assert cutting.gsds_m == set()
    (warning,) = cutting.warnings
    assert "image.tif has a CRS, but no transform, so its place and pixel size are not" in warning
    with rasterio.open(raster_path(tmp_path / "out" / "images", "train", "a")) as file:
        assert file.transform.is_identity
    assert cut(tmp_path, downsample=downsample, gsd_m=0.5).gsds_m == {0.5 * downsample}


def test_a_gsd_of_the_card_that_the_file_contradicts_is_warned_of(tmp_path):
    write_image_and_mask(tmp_path, draw_image(8, 8), np.ones((8, 8), np.uint8))
    cutting = cut(tmp_path, gsd_m=2.5)
    assert cutting.gsds_m == {0.25}
    (warning,) = cutting.warnings
    assert "has a GSD of 0.25 m by its CRS, which is used, and 2.5 m by `gsd_m` in the" in warning
    assert cut(tmp_path, gsd_m=0.26).warnings == []


@settings(max_examples=8)
@given(order=st.permutations([0, 1, 2, 3]), values=st.permutations([0, 3, 7, 200]))
def test_classes_in_any_order_and_of_any_values_give_the_same_labels(order, values):
    """As exports number classes by their names (label-studio#4129)."""
    ids = np.random.default_rng(5).choice(4, (10, 12))
    entries = [
        {"name": f"c{place}", "colour": f"#0000{place:02X}", "value": values[place]}
        for place in order
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image_and_mask(folder, draw_image(10, 12), np.array(values, np.uint8)[ids])
        (tile,) = cut(folder, classes=entries).tiles
        found = read_cut(folder, "masks")[0]
    assert np.array_equal(np.array(order)[found], ids)
    assert tile.pixels == tuple(int((ids == place).sum()) for place in order)


def test_a_tile_of_one_value_is_counted(tmp_path):
    image = draw_image(64, 128)
    image[:, :, 64:] = 5
    write_image_and_mask(tmp_path, image, draw_mask(64, 128))
    cutting = cut(tmp_path)
    assert cutting.constant == ["a_1"]
    assert cutting.summary(["land", "water", "road"])["tiles_of_one_value"] == 1


@pytest.mark.parametrize(
    ("image", "card", "said"),
    [
        (draw_image(8, 8, bands=2), {}, "has 2 band(s), but the card names bands [1, 2, 3]"),
        (draw_image(8, 8).astype(np.uint16), {}, "holds uint16, not uint8: state with"),
        (draw_image(8, 8).astype(np.float32), {}, "holds float32, not uint8"),
    ],
)
def test_an_image_that_the_card_does_not_describe_is_refused(tmp_path, image, card, said):
    write_image_and_mask(tmp_path, image, draw_mask(8, 8))
    with pytest.raises(ValueError, match=r"image\.tif") as caught:
        cut(tmp_path, **card)
    assert said in str(caught.value)


def test_an_image_smaller_than_the_downsampling_is_refused(tmp_path):
    write_image_and_mask(tmp_path, draw_image(3, 90), draw_mask(3, 90))
    with pytest.raises(ValueError, match=r"image\.tif is smaller than tile\.downsample \(4 px\)"):
        cut(tmp_path, downsample=4)


# The stage


def test_the_same_params_give_the_same_bytes_in_data_tiles(project):
    project.run("download", "tile")
    before = read_tree(project.root / "data" / "tiles")
    assert {"tiles/images/train/a.tif", "tiles/masks/test/c.tif"} <= before.keys()
    project.run("download", "tile")
    assert read_tree(project.root / "data" / "tiles") == before


def test_no_region_is_on_two_sides_of_the_index(project):
    split = {"val": ["q"], "test": ["r"]}
    project.write_card(region="folder", images="*/*.tif", masks="*/m/*.tif", split=split)
    for number, name in enumerate(("p/1", "p/2", "q/1", "q/2", "r/1")):
        folder, file = name.split("/")
        write_raster(project.data / folder / f"{file}.tif", draw_image(70, 70, number))
        write_raster(project.data / folder / "m" / f"{file}.tif", draw_mask(70, 70, number))
    for folder in ("images", "masks"):
        for path in (project.data / folder).iterdir():
            path.unlink()
    project.run("download", "tile")
    tiles = read_index(project.root / "data" / "tiles" / "index.csv")
    assert {(tile.region, tile.split) for tile in tiles} == {
        ("p", "train"),
        ("q", "val"),
        ("r", "test"),
    }
    assert len(tiles) == 5 * 4


def test_the_summary_counts_tiles_pixels_and_fractions_of_classes(project):
    project.run("download", "tile")
    report = json.loads((project.root / "metrics" / "tile.json").read_text())
    assert report["train"]["tiles"] == 6
    assert report["train"]["regions"] == 1
    assert report["train"]["megapixels"] == 0.013  # 100 × 130
    assert report["train"]["km2"] == pytest.approx(0.013 * 0.25**2, abs=1e-6)
    with rasterio.open(project.data / "masks" / "a.tif") as file:
        mask = file.read(1)
    labelled = (mask != 255).mean()
    assert report["train"]["labelled_fraction"] == pytest.approx(labelled, abs=1e-6)
    water = (mask == 1).sum() / (mask != 255).sum()
    assert report["train"]["class_fraction"]["water"] == pytest.approx(water, abs=1e-6)


def test_the_area_is_unknown_where_one_gsd_is():
    tile = Tile("a_0", "a", "a", "train", 0, 0, 1000, 2000, (1,))
    cutting = Cutting(tiles=[tile, replace(tile, id="b_0", orthophoto="b")])
    cutting.gsd_by_orthophoto_m = {"a": 0.5}
    assert cutting.summary(("field",))["train"]["km2"] is None
    cutting.gsd_by_orthophoto_m = {"a": 0.5, "b": 1.0}
    assert cutting.summary(("field",))["train"]["km2"] == 0.5 + 2


# Shrinking


def test_an_image_is_shrunk_to_block_means():
    image = np.array([[[0, 1, 10, 10], [2, 3, 10, 12]]], np.uint8)
    assert shrink_image(image, 2).tolist() == [[[2, 10]]]  # 1.5 and 10.5: halves to even
    assert shrink_image(image, 1) is image


def test_a_mask_is_shrunk_to_the_commonest_value_and_the_smallest_of_equals():
    mask = np.array([[4, 4, 1, 255, 3, 2], [0, 1, 255, 255, 2, 3]], np.uint8)
    assert shrink_mask(mask, 2).tolist() == [[4, 255, 2]]


@settings(max_examples=30)
@given(factor=st.integers(2, 32), seed=st.integers(0, 99), values=st.integers(1, 6))
def test_downsampling_has_the_bits_of_the_mean_and_of_the_commonest(factor, seed, values):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (2, 3 * factor, 2 * factor), np.uint8)
    blocks = image.reshape(2, 3, factor, 2, factor)
    means = np.rint(blocks.mean(axis=(2, 4), dtype=np.float32))
    assert np.array_equal(shrink_image(image, factor), means)
    mask = random.choice(np.array([0, 1, 2, 3, 255, 254])[:values], image.shape[1:])
    mask = mask.astype(np.uint8)
    each = mask.reshape(3, factor, 2, factor).transpose(0, 2, 1, 3).reshape(6, -1)
    wanted = [np.bincount(block, minlength=256).argmax() for block in each]
    assert shrink_mask(mask, factor).ravel().tolist() == wanted


@pytest.mark.parametrize("factor", [2, 3, 6, 16, 17])
def test_every_sum_of_a_block_is_rounded_as_its_mean(factor):
    whole, rest = np.divmod(np.arange(255 * factor**2 + 1), factor**2)
    blocks = whole[:, np.newaxis] + (np.arange(factor**2) < rest[:, np.newaxis])
    image = blocks.reshape(-1, factor, factor).astype(np.uint8)
    means = np.rint(image.mean(axis=(1, 2), dtype=np.float32))
    assert np.array_equal(shrink_image(image, factor)[:, 0, 0], means)
