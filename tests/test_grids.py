"""A grid lies where its CRS and transform say; an image and its mask share one."""

import warnings

import numpy as np
import pytest
from rasterio.transform import from_origin

from pointcover.grids import check_same_grid, north_up
from pointcover.raster import RasterReader
from tests.imagery import draw_image, write_raster


@pytest.fixture
def image():
    return draw_image(40, 50)


def test_north_up_places_the_upper_left_corner():
    assert north_up(500_000, 600_000, 0.25) * (4, 8) == (500_001, 599_998)


def test_a_mask_of_the_same_pixels_is_accepted_with_or_without_a_place(tmp_path, image):
    info = RasterReader(write_raster(tmp_path / "a.tif", image)).info()
    mask = RasterReader(write_raster(tmp_path / "b.tif", image[0])).info()
    check_same_grid(info, mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare = write_raster(tmp_path / "c.tif", image[0], crs=None, transform=None)
    check_same_grid(info, RasterReader(bare).info())


@pytest.mark.parametrize(
    ("mask", "options", "said"),
    [
        (np.zeros((50, 40)), {}, "differ in size: 40×50 against 50×40 px"),
        (np.zeros((40, 50)), {"crs": "EPSG:32634"}, "differ in CRS: EPSG:2180 against EPSG:32634"),
        (np.zeros((40, 50)), {"transform": from_origin(500_001, 600_000, 0.25, 0.25)},
         "lie 4.00 px apart"),
        # Two hundredths of a pixel at the far corner only: another GSD, the same origin
        (np.zeros((40, 50)), {"transform": from_origin(500_000, 600_000, 0.2501, 0.25)},
         "lie 0.02 px apart"),
    ],
)  # fmt: skip
def test_a_mask_of_other_pixels_is_refused_with_both_values(tmp_path, image, mask, options, said):
    info = RasterReader(write_raster(tmp_path / "a.tif", image)).info()
    other = RasterReader(write_raster(tmp_path / "b.tif", mask.astype(np.uint8), **options)).info()
    with pytest.raises(ValueError, match=r"a\.tif and its mask .*b\.tif") as caught:
        check_same_grid(info, other)
    assert said in str(caught.value)
