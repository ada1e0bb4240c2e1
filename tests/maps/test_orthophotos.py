"""An image that is not as in training is refused with both values, or read as it was there."""

import math
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NodataShadowWarning
from rasterio.transform import Affine, from_origin

from pointcover.labels import ClassTable
from pointcover.maps.orthophotos import (
    open_orthophoto,
    parse_bands,
    parse_range,
    spread_windows,
)
from pointcover.maps.settings import ReadingSettings
from pointcover.raster.grids import ground_m2, pixel_sides_m
from pointcover.raster.raster_io import RasterInfo, RasterReader, Window
from pointcover.tileset.tiles import TileSet
from tests.imagery import draw_image, place_by_points, write_raster

CLASSES = ClassTable(("land", "water"), ((1, 2, 3), (4, 5, 6)))
RGB = TileSet(CLASSES, 64, (0.25,), (0.0,) * 3, (1.0,) * 3, (0.0, 255.0), (1, 2, 3))
SIXTEEN = replace(RGB, value_range=(0.0, 2000.0), bands=(3, 1), mean=(0.0,) * 2, std=(1.0,) * 2)
ASKED = ReadingSettings()


def read_all(orthophoto):
    return orthophoto.read_rows(0, orthophoto.grid.height)


def test_a_matching_image_is_read_unchanged(tmp_path):
    image = draw_image(20, 30)
    path = write_raster(tmp_path / "a.tif", image)
    orthophoto = open_orthophoto(path, [RGB], ASKED)
    values, valid = read_all(orthophoto)
    assert np.array_equal(values, image)
    assert valid.all()
    assert (orthophoto.gsd_m, orthophoto.remarks) == (0.25, ())


def test_bands_come_in_the_order_of_training_and_values_in_its_scale(tmp_path):
    image = np.array([[[0, 500]], [[1, 1]], [[1000, 4000]]], np.uint16)
    path = write_raster(tmp_path / "a.tif", image)
    values, _ = read_all(open_orthophoto(path, [SIXTEEN], ASKED))
    assert values.tolist() == [[[128, 255]], [[0, 64]]]
    said = ReadingSettings(bands=(1, 3), value_range=(0, 1000))
    values, _ = read_all(open_orthophoto(path, [SIXTEEN], said))
    assert values.tolist() == [[[0, 128]], [[255, 255]]]


@pytest.mark.parametrize("how", ["nodata", "alpha", "mask", "nan"])
def test_pixels_without_data_are_0_and_not_valid(tmp_path, how):
    image = draw_image(20, 30)
    hole = np.zeros((20, 30), bool)
    hole[5:9, 3:8] = True
    path = tmp_path / "a.tif"
    if how == "nodata":
        write_raster(path, np.where(hole, 0, image).astype(np.uint8), nodata=0)
    elif how == "alpha":
        write_raster(path, np.concatenate([image, np.where(hole, 0, 255)[None]]).astype(np.uint8))
        with rasterio.open(path, "r+") as file:
            red, green, blue = ColorInterp.red, ColorInterp.green, ColorInterp.blue
            file.colorinterp = (red, green, blue, ColorInterp.alpha)
    elif how == "mask":
        write_raster(path, image)
        with rasterio.open(path, "r+") as file:
            file.write_mask(~hole)
    else:
        write_raster(path, np.where(hole, math.nan, image).astype(np.float32))
    said = ReadingSettings(value_range=(0, 255)) if how == "nan" else ASKED
    values, valid = read_all(open_orthophoto(path, [RGB], said))
    assert np.array_equal(valid, ~hole)
    assert np.array_equal(values, np.where(hole, 0, image))


UNFIT = {
    "too few bands": (
        draw_image(9, 9, bands=2),
        RGB,
        {},
        r"has 2 band\(s\), but bands 1,2,3 are to be read, as in training.*--bands",
    ),
    "a band that is not there": (
        draw_image(9, 9),
        RGB,
        {"bands": (1, 2, 4)},
        "has 3 band.*1,2,4 are to be read, as set by --bands",
    ),
    "another number of bands": (
        draw_image(9, 9),
        RGB,
        {"bands": (1, 2)},
        r"--bands names 2 band\(s\), but the model was trained on 3",
    ),
    "16 bits for 8": (
        draw_image(9, 9).astype(np.uint16),
        RGB,
        {},
        "holds uint16, but the model was trained on values of 0 to 255: set with --value-range",
    ),
    "8 bits for 16": (
        draw_image(9, 9),
        SIXTEEN,
        {},
        "holds uint8, but the model was trained on values of 0 to 2000",
    ),
    "an empty range": (
        draw_image(9, 9),
        RGB,
        {"value_range": (5, 5)},
        "--value-range: got 5,5, wanted the lower value first",
    ),
    "another GSD": (
        draw_image(9, 9),
        replace(RGB, gsds_m=(0.5, 1.0)),
        {},
        "has a GSD of 0.25 m, but the model was trained on 0.5 to 1 m: use --resample",
    ),
    "two GSDs": (
        draw_image(9, 9),
        RGB,
        {"gsd_m": 0.5},
        "has a GSD of 0.25 m by its CRS, but --gsd-m is 0.5 m",
    ),
}


@pytest.mark.parametrize(("image", "trained", "said", "message"), UNFIT.values(), ids=UNFIT)
def test_images_unlike_training_are_refused(tmp_path, image, trained, said, message):
    path = write_raster(tmp_path / "a.tif", image)
    with pytest.raises(ValueError, match=message) as caught:
        open_orthophoto(path, [trained], ReadingSettings(**said))
    assert str(path) in str(caught.value) or "--" in str(caught.value)


FOUR = replace(RGB, bands=(1, 2, 3, 4), mean=(0.0,) * 4, std=(1.0,) * 4)


def test_a_band_that_is_declared_alpha_and_has_the_values_of_one_is_not_read_as_in_training(
    tmp_path,
):
    image = draw_image(9, 9, bands=4)
    image[3] = np.where(image[3] > 99, 255, 0)
    path = write_raster(tmp_path / "a.tif", image, photometric="rgb", alpha="yes")
    with pytest.raises(ValueError, match="band 4 is its alpha band, with 0 and 255 alone, but"):
        open_orthophoto(path, [FOUR], ASKED)
    orthophoto = open_orthophoto(path, [FOUR], ReadingSettings(bands=(1, 2, 3, 4)))
    assert read_all(orthophoto)[1].all()
    assert "band 4 is declared alpha and holds 0 and 255 alone" in orthophoto.remarks[0]
    assert open_orthophoto(path, [RGB], ASKED).remarks == ()


@pytest.mark.parametrize("resampled", [False, True])
@pytest.mark.parametrize("nodata", [None, 7])
def test_near_infrared_that_is_declared_alpha_is_data_where_it_is_read(tmp_path, resampled, nodata):
    image = np.kron(draw_image(10, 15, bands=4) | 8, np.ones((2, 2), np.uint8))
    image[3, :8] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NodataShadowWarning)
        path = write_raster(
            tmp_path / "a.tif", image, photometric="rgb", alpha="yes", nodata=nodata
        )
    trained = replace(FOUR, gsds_m=(0.5,) if resampled else (0.25,))
    orthophoto = open_orthophoto(path, [trained], ReadingSettings(resample=True))
    values, valid = read_all(orthophoto)
    assert np.array_equal(values, image[:, ::2, ::2] if resampled else image)
    assert valid.all()
    three = open_orthophoto(path, [replace(trained, bands=(1, 2, 3))], ReadingSettings(resample=1))
    assert read_all(three)[1].mean() == 0.6
    assert any("declared alpha, so pixels where it is 0 have" in one for one in three.remarks)


@pytest.mark.parametrize("resampled", [False, True])
def test_what_is_no_data_in_the_bands_that_are_read_has_none(tmp_path, resampled):
    image = np.kron(draw_image(10, 15, bands=5), np.ones((2, 2), np.uint8))
    image[:3, 4:8, 6:10] = 0
    path = write_raster(tmp_path / "a.tif", image, nodata=0)
    trained = replace(RGB, gsds_m=(0.5,) if resampled else (0.25,))
    values, valid = read_all(open_orthophoto(path, [trained], ReadingSettings(resample=True)))
    step = 2 if resampled else 1
    assert np.array_equal(valid, image[:3, ::step, ::step].any(axis=0))
    assert np.array_equal(values, image[:3, ::step, ::step])


def test_ground_control_points_are_remarked_with_what_to_do(tmp_path):
    path = place_by_points(tmp_path / "a.tif", draw_image(9, 9))
    (first, *_) = open_orthophoto(path, [RGB], ASKED).remarks
    assert "is placed by ground control points alone" in first
    assert first.endswith("its map would have no place")


def test_a_crs_without_a_transform_is_remarked_and_gives_no_gsd(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_image(20, 30), transform=None)
    orthophoto = open_orthophoto(path, [replace(RGB, gsds_m=(1.0,))], ASKED)
    assert orthophoto.gsd_m is None
    assert "a.tif has a CRS, but no transform, so its place" in orthophoto.remarks[0]
    assert orthophoto.remarks[0].endswith("its map would have no place")
    resampled = ReadingSettings(gsd_m=0.5, resample=True)
    orthophoto = open_orthophoto(path, [replace(RGB, gsds_m=(1.0,))], resampled)
    assert (orthophoto.grid.height, orthophoto.grid.width, orthophoto.gsd_m) == (10, 15, 1.0)
    assert not orthophoto.grid.is_georeferenced


def test_a_frequent_value_outside_the_range_is_remarked(tmp_path):
    """As files have that do not declare their nodata (torchgeo#2466)."""
    image = draw_image(20, 30, bands=3).astype(np.float32)
    image[:, :5] = -9999
    trained = replace(RGB, value_range=(0.0, 255.5))
    (remark,) = open_orthophoto(write_raster(tmp_path / "a.tif", image), [trained], ASKED).remarks
    assert "a.tif has the value -9999 in 25% of its pixels, which becomes black" in remark
    path = write_raster(tmp_path / "b.tif", image, nodata=-9999)
    assert not open_orthophoto(path, [trained], ASKED).remarks


def test_a_palette_image_is_refused(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9, bands=1), palette={0: (1, 2, 3)})
    with pytest.raises(ValueError, match="is a palette image"):
        open_orthophoto(path, [RGB], ASKED)


def test_a_gsd_between_or_close_to_those_of_training_is_taken(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9))
    for gsds_m in ((0.1, 0.5), (0.24,), (0.27,)):
        assert not open_orthophoto(path, [replace(RGB, gsds_m=gsds_m)], ASKED).remarks


@pytest.mark.parametrize(
    ("options", "trained", "said"),
    [
        ({"crs": None}, RGB, ["has no CRS, so its map has none", "is not known.*0.25 m.*--gsd-m"]),
        ({}, replace(RGB, gsds_m=()), ["is not compared with that of training, which the model"]),
    ],
)
def test_missing_metadata_are_remarked(tmp_path, options, trained, said):
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9), **options)
    remarks = open_orthophoto(path, [trained], ASKED).remarks
    assert len(remarks) == len(said)
    for remark, wanted in zip(remarks, said, strict=True):
        assert path.name in remark
        assert re.search(wanted, remark)


def test_a_given_gsd_is_compared_too(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9), crs=None)
    with pytest.raises(ValueError, match=r"GSD of 2 m, but the model was trained on 0\.25 m"):
        open_orthophoto(path, [RGB], ReadingSettings(gsd_m=2))
    assert open_orthophoto(path, [RGB], ReadingSettings(gsd_m=0.25)).gsd_m == 0.25


def test_degrees_are_metres_on_the_ground(tmp_path):
    """At 60° north a degree of longitude is half as long as at the equator: 0.25 m each way."""
    place = from_origin(20, 60, 0.25 / 55_800, 0.25 / 111_412)
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9), crs="EPSG:4326", transform=place)
    assert open_orthophoto(path, [RGB], ASKED).gsd_m == pytest.approx(0.25, rel=1e-3)


OBLONG = {
    "plane": ("EPSG:2180", from_origin(500_000, 600_000, 0.5, 0.125)),
    "square degrees": ("EPSG:4326", from_origin(20, 60, 0.5 / 111_412, 0.5 / 111_412)),
    "equal areas": ("EPSG:6933", from_origin(1_900_000, 6_300_000, 0.5, 0.125)),
}


@pytest.mark.parametrize(("crs", "place"), OBLONG.values(), ids=OBLONG)
def test_pixels_that_are_not_square_are_resampled_or_refused(tmp_path, crs, place):
    path = write_raster(tmp_path / "a.tif", draw_image(80, 60), crs=crs, transform=place)
    info = RasterReader(path).info()
    down_m, across_m = pixel_sides_m(info)
    gsd_m = math.sqrt(down_m * across_m)
    assert gsd_m**2 == pytest.approx(float(ground_m2(info, np.array([40]))[0]))
    between = replace(RGB, gsds_m=(0.1, gsd_m, 1.0))
    with pytest.raises(
        ValueError, match=r"m down and .* m across, but .* both ways: use --resample"
    ):
        open_orthophoto(path, [between], ASKED)
    orthophoto = open_orthophoto(path, [between], ReadingSettings(resample=True))
    assert (orthophoto.grid.height, orthophoto.grid.width) == (
        round(80 * down_m / gsd_m),
        round(60 * across_m / gsd_m),
    )
    assert pixel_sides_m(orthophoto.grid) == pytest.approx((gsd_m, gsd_m), rel=0.02)
    assert orthophoto.gsd_m == pytest.approx(gsd_m)
    (remark,) = open_orthophoto(path, [replace(RGB, gsds_m=())], ASKED).remarks[1:]
    assert "are not square" in remark


def test_sides_are_those_of_the_ground():
    """At 60° north a degree of longitude is half as long as one of latitude."""
    for crs, place, ratio in (
        ("EPSG:4326", from_origin(20, 60, 1e-5, 1e-5), 0.5),
        ("EPSG:3857", from_origin(2e6, 8_399_737, 1, 1), 1),
        ("EPSG:2180", Affine.rotation(30) @ Affine.scale(0.5, -0.25), 2),
    ):
        info = RasterInfo(Path("a.tif"), 2, 2, 1, "uint8", CRS.from_string(crs), place, False)
        down_m, across_m = pixel_sides_m(info)
        assert across_m / down_m == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("crs", ["EPSG:2180", None])
@pytest.mark.parametrize(("trained_m", "size"), [(0.5, (10, 15)), (0.125, (40, 60)), (5.0, (1, 2))])
def test_resampling_keeps_the_extent_and_takes_the_gsd_of_training(tmp_path, crs, trained_m, size):
    image = np.repeat(np.repeat(draw_image(10, 15), 2, axis=1), 2, axis=2)
    path = write_raster(tmp_path / "a.tif", image, crs=crs)
    said = ReadingSettings(resample=True, gsd_m=None if crs else 0.25)
    orthophoto = open_orthophoto(path, [replace(RGB, gsds_m=(trained_m,))], said)
    grid = orthophoto.grid
    assert (grid.height, grid.width) == size
    assert (grid.crs is None) == (crs is None)
    left, top = grid.transform @ (0, 0)
    right, bottom = grid.transform @ (grid.width, grid.height)
    assert (left, top, right, bottom) == pytest.approx((500_000, 600_000, 500_007.5, 599_995))
    values, valid = read_all(orthophoto)
    assert values.shape == (3, *size)
    assert valid.all()
    if trained_m == 0.5:  # each block of 2 × 2 px is of one value
        assert np.array_equal(values, image[:, ::2, ::2])
    assert any("is resampled from 0.25 m" in remark for remark in orthophoto.remarks)


def test_models_without_a_common_gsd_are_refused_even_with_resample(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9))
    trained = [replace(RGB, gsds_m=(1.0,)), replace(RGB, gsds_m=(2.0,))]
    with pytest.raises(ValueError, match="on GSDs of 1 m and 2 m: no GSD suits all"):
        open_orthophoto(path, trained, ReadingSettings(resample=True))


def write_sparse(path, **options):
    """Four blocks of 64 px, of which the upper left one is never written."""
    values = draw_image(100, 120)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=3,
        height=100,
        width=120,
        crs="EPSG:2180",
        transform=from_origin(500_000, 600_000, 0.25, 0.25),
        tiled=True,
        blockxsize=64,
        blockysize=64,
        sparse_ok=True,
        **options,
    ) as file:
        file.write(values[:, 64:], window=Window(0, 64, 120, 36))
        file.write(values[:, :64, 64:], window=Window(64, 0, 56, 64))
    return path


@pytest.mark.parametrize("resampled", [False, True])
def test_blocks_that_were_never_written_have_no_data(tmp_path, resampled):
    path = write_sparse(tmp_path / "a.tif")
    trained = replace(RGB, gsds_m=(0.5,)) if resampled else RGB
    orthophoto = open_orthophoto(path, [trained], ReadingSettings(resample=resampled))
    values, valid = read_all(orthophoto)
    size = 32 if resampled else 64
    wanted = np.ones(valid.shape, bool)
    wanted[:size, :size] = False
    assert np.array_equal(valid, wanted)
    assert not values[:, ~valid].any()
    assert np.array_equal(orthophoto.read_rows(size - 2, size + 2)[1], wanted[size - 2 : size + 2])
    window = Window(size - 2, size - 3, 4, 9)
    found, has_data = orthophoto.read(window)
    assert np.array_equal(has_data, wanted[window.toslices()])
    assert np.array_equal(found, values[(slice(None), *window.toslices())])
    assert "blocks with 34.1% of its pixels were never written" in orthophoto.remarks[-1]


def test_missing_blocks_with_a_nodata_value_have_no_remark(tmp_path):
    orthophoto = open_orthophoto(write_sparse(tmp_path / "a.tif", nodata=0), [RGB], ASKED)
    assert not orthophoto.remarks
    assert not read_all(orthophoto)[1][:64, :64].any()


@pytest.mark.parametrize("said", [{}, {"value_range": (0, 2047)}])
def test_values_that_all_become_black_or_white_are_refused(tmp_path, said):
    image = np.random.default_rng(0).random((3, 200, 300)).astype(np.float32)
    image[:, :150] = 0  # what lies around
    path = write_raster(tmp_path / "a.tif", image)
    trained = replace(RGB, value_range=(0.0, 2047.0))
    wanted = r"has values of .* to 0\.99.*, and 100% .* 0 is black and 2047 is white .*--value-ra"
    with pytest.raises(ValueError, match=wanted):
        open_orthophoto(path, [trained], ReadingSettings(**said))
    open_orthophoto(path, [trained], ReadingSettings(value_range=(0, 1)))
    bright = write_raster(tmp_path / "b.tif", np.full((3, 90, 90), 60_000, np.uint16))
    with pytest.raises(ValueError, match="values of 60000 to 60000, and 100%"):
        open_orthophoto(bright, [trained], ASKED)
    empty = write_raster(tmp_path / "c.tif", np.zeros((3, 90, 90), np.uint16))
    open_orthophoto(empty, [trained], ASKED)


@pytest.mark.parametrize(
    ("kinds", "advice"),
    [
        (("blue", "green", "red"), "set --bands 3,2,1"),
        (("undefined", "red", "green", "blue"), "set --bands 2,3,4"),
        (("green", "red", "undefined"), "set the bands to read with --bands"),
        (("red", "green", "blue", "undefined"), None),
        (("gray", "undefined", "undefined"), None),
    ],
)
def test_colours_in_another_order_than_usual_are_remarked(tmp_path, kinds, advice):
    path = write_raster(tmp_path / "a.tif", draw_image(20, 30, bands=len(kinds)))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp[kind] for kind in kinds]
    remarks = open_orthophoto(path, [RGB], ASKED).remarks
    assert [advice in remark for remark in remarks] == [True] * (advice is not None)
    assert not open_orthophoto(path, [RGB], ReadingSettings(bands=(1, 2, 3))).remarks
    assert not open_orthophoto(path, [replace(RGB, bands=(3, 2, 1))], ASKED).remarks


@pytest.mark.parametrize(
    "options", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64}, {"compress": "deflate"}]
)
def test_a_truncated_tiff_is_refused_first(tmp_path, options):
    path = write_raster(tmp_path / "a.tif", draw_image(200, 200), **options)
    open_orthophoto(path, [RGB], ASKED)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(ValueError, match=r"a\.tif (is|cannot).*(cut short|damaged).*Copy it again"):
        open_orthophoto(path, [RGB], ASKED)


@pytest.mark.parametrize("driver", ["PNG", "JPEG"])
def test_a_truncated_picture_is_refused_first(tmp_path, driver):
    path = write_raster(tmp_path / "a.img", draw_image(200, 200), driver=driver)
    open_orthophoto(path, [RGB], ASKED)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="Copy it again"):
        open_orthophoto(path, [RGB], ASKED)


def test_bands_and_ranges_are_read_from_text():
    assert parse_bands("3,2,1") == (3, 2, 1)
    assert parse_range("-1.5,2047") == (-1.5, 2047)
    for text in ("", "a", "1;2"):
        with pytest.raises(ValueError, match="--bands: got"):
            parse_bands(text)
    for text in ("5", "1,2,3", "a,b"):
        with pytest.raises(ValueError, match="--value-range: got"):
            parse_range(text)


def test_windows_are_spread_over_all_images_and_hold_data(tmp_path):
    paths = []
    for number, size in enumerate([(200, 260), (100, 70)]):
        image = np.full((3, *size), 10 + number, np.uint8)
        image[:, :64, :64] = 0
        paths.append(write_raster(tmp_path / f"{number}.tif", image, nodata=0))
    orthophotos = [open_orthophoto(path, [RGB], ASKED) for path in paths]
    windows = spread_windows(orthophotos, 64)  # 3 × 4 and 1 × 1, of each the first without data
    assert {window.shape for window in windows} == {(3, 64, 64)}
    assert [window.max() for window in windows] == [10] * 11
    assert len(spread_windows(orthophotos[:1], 64, count=2)) == 1
    assert spread_windows(orthophotos, 128)[-1].shape == (3, 96, 64)
    with pytest.raises(ValueError, match=r"1\.tif: found no window of 64 px or more with data"):
        spread_windows(orthophotos[1:], 64)
