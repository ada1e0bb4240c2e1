"""A grid lies where its CRS and transform say; an image and its mask share one."""

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin

from pointcover.raster.grids import check_same_grid, gsd_of, north_up
from pointcover.raster.raster_io import RasterReader
from tests.imagery import PLACE, draw_image, write_raster


@pytest.fixture
def image():
    return draw_image(40, 50)


def test_north_up_places_the_upper_left_corner():
    assert north_up(500_000, 600_000, 0.25) @ (4, 8) == (500_001, 599_998)


@pytest.mark.parametrize(
    ("crs", "place", "wanted_m"),
    [
        ("EPSG:2180", north_up(500_000, 600_000, 0.25), 0.25),
        # New York, in US survey feet
        ("EPSG:2263", north_up(1_000_000, 200_000, 0.25), 0.25 * 1200 / 3937),
        # A web map stretches by 1 / cos(latitude): at 60° north two to one, on a sphere
        ("EPSG:3857", north_up(2e6, 8_399_738, 0.5), 0.25),
        # At 60° north a degree is 111.4 km to the north and 55.8 km to the east
        ("EPSG:4326", north_up(20, 60, 1e-5), (1.1141 * 0.5580) ** 0.5),
        ("EPSG:4326", None, None),
        ("EPSG:2180", None, None),  # not one metre, as the identity says
        ("EPSG:32617+6360", north_up(500_000, 4_000_000, 0.5), 0.5),  # heights alone are in feet
        (None, None, None),
    ],
)
def test_the_gsd_is_that_of_the_ground(tmp_path, image, crs, place, wanted_m):
    path = write_raster(tmp_path / "a.tif", image, crs=crs, transform=place)
    found_m = gsd_of(RasterReader(path).info())
    assert found_m == (None if wanted_m is None else pytest.approx(wanted_m, rel=4e-3))


def test_a_mask_of_the_same_pixels_is_accepted_with_or_without_a_place(tmp_path, image):
    info = RasterReader(write_raster(tmp_path / "a.tif", image)).info()
    mask = RasterReader(write_raster(tmp_path / "b.tif", image[0])).info()
    check_same_grid(info, mask)
    bare = write_raster(tmp_path / "c.tif", image[0], crs=None, transform=None)
    check_same_grid(info, RasterReader(bare).info())


LOCAL = CRS.from_wkt('LOCAL_CS["RGF93 / Lambert-93",UNIT["metre",1]]')


@pytest.mark.parametrize("local", ["image", "mask", "both"])
def test_a_crs_that_is_not_on_the_earth_counts_as_none_on_the_same_pixels(tmp_path, image, local):
    paths = []
    for name, values in (("image", image), ("mask", image[0])):
        options = {"crs": LOCAL} if local in (name, "both") else {}
        paths.append(write_raster(tmp_path / f"{name}.tif", values, **options))
    check_same_grid(*(RasterReader(path).info() for path in paths))
    moved = write_raster(
        tmp_path / "moved.tif", image[0], crs=LOCAL, transform=PLACE @ Affine.translation(1, 0)
    )
    with pytest.raises(ValueError, match=r"lie 1\.00 px apart"):
        check_same_grid(RasterReader(paths[0]).info(), RasterReader(moved).info())


@pytest.mark.parametrize(
    ("mask", "options", "said"),
    [
        (np.zeros((50, 40)), {}, "differ in size: 40×50 against 50×40 px"),
        (np.zeros((40, 50)), {"crs": "EPSG:32634"}, "differ in CRS: EPSG:2180 against EPSG:32634"),
        (
            np.zeros((40, 50)),
            {"transform": from_origin(500_001, 600_000, 0.25, 0.25)},
            "lie 4.00 px apart",
        ),
        # Two hundredths of a pixel at the far corner only: another GSD, the same origin
        (
            np.zeros((40, 50)),
            {"transform": from_origin(500_000, 600_000, 0.2501, 0.25)},
            "lie 0.02 px apart",
        ),
    ],
)
def test_a_mask_of_other_pixels_is_refused_with_both_values(tmp_path, image, mask, options, said):
    info = RasterReader(write_raster(tmp_path / "a.tif", image)).info()
    other = RasterReader(write_raster(tmp_path / "b.tif", mask.astype(np.uint8), **options)).info()
    with pytest.raises(ValueError, match=r"a\.tif and its mask .*b\.tif") as caught:
        check_same_grid(info, other)
    assert said in str(caught.value)
