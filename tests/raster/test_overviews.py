"""Windows at coarser resolutions, from overviews that lie apart from the image."""

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from pointcover.raster import overviews
from pointcover.raster.overviews import LevelReader
from tests.imagery import CRS, PLACE, draw_image, write_raster


@pytest.fixture
def small_limits(monkeypatch):
    """Make small images large."""
    for name, value in (("LEAST_PX", 32), ("DIRECT_PX", 64), ("STRIP_PX", 64), ("BLOCK_PX", 16)):
        monkeypatch.setattr(overviews, name, value)


def averaged(image, factor):
    bands, height, width = image.shape
    rows, cols = -(-height // factor), -(-width // factor)
    found = np.zeros((bands, rows, cols))
    for row in range(rows):
        for col in range(cols):
            part = image[:, row * factor : (row + 1) * factor, col * factor : (col + 1) * factor]
            found[:, row, col] = part.mean(axis=(1, 2))
    return found


@pytest.mark.parametrize("driver", ["GTiff", "PNG"])
def test_levels_are_averages_with_and_without_overviews(tmp_path, small_limits, driver):
    image = draw_image(250, 170)
    options = {} if driver == "GTiff" else {"driver": "PNG", "crs": None, "transform": None}
    folder = tmp_path / "images"
    path = write_raster(folder / f"a.{driver.lower()}", image, **options)
    before = sorted(folder.iterdir())
    reader = LevelReader(path, (1, 2, 3), tmp_path / "cache")
    assert (reader.levels, reader.is_ready) == (4, False)
    without = [reader.read(level, 0, 0, reader.size(level))[0] for level in range(4)]
    reader.write_overviews()
    assert reader.is_ready
    assert LevelReader(path, (1, 2, 3), tmp_path / "cache").is_ready
    for level in range(4):
        found, valid = reader.read(level, 0, 0, reader.size(level))
        assert valid.all()
        np.testing.assert_allclose(found, averaged(image, 2**level), atol=1.01 * level)
        np.testing.assert_allclose(found, without[level], atol=1)
    assert sorted(folder.iterdir()) == before


def test_a_window_beyond_the_edges_has_no_data_there(tmp_path):
    image = draw_image(40, 30)
    path = write_raster(tmp_path / "a.tif", image)
    reader = LevelReader(path, (3, 1), tmp_path / "cache")
    found, valid = reader.read(0, -2, 25, (10, 10))
    assert valid[2:, :5].all()
    assert valid.sum() == 40
    np.testing.assert_array_equal(found[:, 2:, :5], image[[2, 0], :8, 25:])
    assert not found[:, ~valid].any()
    reader.close()


def test_pixels_without_data_do_not_darken_their_neighbours(tmp_path):
    image = np.full((1, 8, 8), 200, np.uint8)
    image[0, 0, :] = 0
    path = write_raster(tmp_path / "a.tif", image, nodata=0)
    reader = LevelReader(path, (1,), tmp_path / "cache")
    found, valid = reader.read(1, 0, 0, (4, 4))
    assert valid.all()
    assert (found == 200).all()


def test_a_missing_band_is_an_error(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_image(8, 8, bands=1))
    with pytest.raises(ValueError, match=r"a\.tif has 1 band\(s\), wanted band 3"):
        LevelReader(path, (1, 2, 3), tmp_path / "cache")


def test_a_palette_image_is_refused(tmp_path):
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9, bands=1), palette={7: (1, 2, 3)})
    with pytest.raises(ValueError, match=r"a\.tif is a palette image, .*gdal_translate -expand"):
        LevelReader(path, [1], tmp_path / "cache")


def test_blocks_that_were_never_written_have_no_data(tmp_path):
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 64, "width": 128}
    profile |= {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True}
    with rasterio.open(path, "w", **profile, crs=CRS, transform=PLACE) as file:
        file.write(draw_image(64, 64, bands=1), window=Window(64, 0, 64, 64))
    reader = LevelReader(path, [1], tmp_path / "cache")
    for level in (0, 1):
        height, width = reader.size(level)
        _, valid = reader.read(level, 0, 0, (height, width))
        assert valid.tolist() == [[False] * (width // 2) + [True] * (width // 2)] * height
    reader.close()
