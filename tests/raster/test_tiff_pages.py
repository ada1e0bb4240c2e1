"""A TIFF of several images of one size is refused, as GDAL reads the first alone (ilastik#106)."""

import struct

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling

from pointcover.raster import tiff_pages
from pointcover.raster.raster_io import RasterReader
from pointcover.raster.tiff_pages import count_pages
from tests.imagery import draw_image, write_raster


def write_pages(path, *pages, **options):
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("big", [False, True])
def test_pages_of_one_size_are_refused_with_the_way_to_write_one(tmp_path, big):
    mask = np.zeros((30, 40), np.uint8)
    path = write_pages(tmp_path / "a.tif", mask, mask + 1, mask + 2, big_tiff=big)
    assert count_pages(path) == 3
    with pytest.raises(ValueError, match=r"a\.tif holds 3 images of 30 × 40 px .* GTIFF_DIR:1:IN"):
        RasterReader(path).info()


def test_previews_masks_and_overviews_are_no_pages(tmp_path):
    image = np.moveaxis(draw_image(64, 64), 0, -1)
    path = write_pages(tmp_path / "preview.tif", image, image[::4, ::4].copy())
    assert RasterReader(path).info().bands == 3
    path = write_raster(tmp_path / "a.tif", draw_image(64, 64))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.arange(64 * 64).reshape(64, 64) > 99)
        file.build_overviews([2, 4], Resampling.average)
    assert count_pages(path) == 1
    assert RasterReader(path).info().bands == 3


def test_another_format_and_a_file_cut_anywhere_have_one_page(tmp_path):
    other = write_raster(tmp_path / "a.png", draw_image(9, 9), driver="PNG", crs=None)
    assert count_pages(other) == 1
    mask = np.zeros((30, 40), np.uint8)
    whole = write_pages(tmp_path / "a.tif", mask, mask).read_bytes()
    for size in range(0, len(whole), 53):
        (tmp_path / "b.tif").write_bytes(whole[:size])
        assert count_pages(tmp_path / "b.tif") in (1, 2)


def test_directories_in_a_circle_are_read_once(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9))
    data = bytearray(path.read_bytes())
    place = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[place : place + 2], "little")
    after = place + 2 + 12 * count
    data[after : after + 4] = data[4:8]
    path.write_bytes(data)
    opened = []
    monkeypatch.setattr(
        tiff_pages,
        "_read_directory",
        lambda *args, read=tiff_pages._read_directory, **options: (
            opened.append(args[1]) or read(*args, **options)
        ),
    )
    assert count_pages(path) == 1
    assert len(opened) == 1


@pytest.mark.parametrize("offset", [2**64 - 1, 2**63, 2**62, 10**6])
def test_a_directory_beyond_the_end_is_none(tmp_path, offset):
    page = np.zeros((30, 40), np.uint8)
    path = write_pages(tmp_path / "a.tif", page, big_tiff=True)
    data = bytearray(path.read_bytes())
    place = int.from_bytes(data[8:16], "little")
    after = place + 8 + 20 * int.from_bytes(data[place : place + 8], "little")
    assert data[after : after + 8] == bytes(8)
    data[after : after + 8] = offset.to_bytes(8, "little")
    path.write_bytes(data)
    assert count_pages(path) == 1


def test_a_number_that_is_shorter_than_its_type_is_filled_with_zeros(tmp_path):
    page = np.zeros((30, 40), np.uint8)
    path = write_pages(tmp_path / "a.tif", page, page)
    data = bytearray(path.read_bytes())
    place = int.from_bytes(data[4:8], "little")
    for entry in range(place + 2, place + 2 + 12 * data[place], 12):
        if int.from_bytes(data[entry : entry + 2], "little") == tiff_pages.WIDTH:
            # The type of eight bytes, of which a classic TIFF holds four in its directory
            data[entry + 2 : entry + 12] = struct.pack("<HII", 16, 1, 40)
    path.write_bytes(data)
    assert count_pages(path) == 2
