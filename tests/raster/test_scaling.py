"""Values outside of the range that is scaled are refused or warned of (raster-vision#1276)."""

import numpy as np
import pytest

from pointcover.raster.raster_io import RasterReader
from pointcover.raster.scaling import ValueRange, check_values
from tests.imagery import draw_image, write_raster


def check(path, low, high, bands=(1, 2, 3)):
    return check_values(RasterReader(path), bands, ValueRange(low, high, "by the card", "mend it"))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (1000, 2000), (-300, -200)])
def test_a_range_without_the_values_is_refused(tmp_path, low, high):
    path = write_raster(tmp_path / "a.tif", draw_image(40, 50).astype(np.int16))
    with pytest.raises(ValueError, match=r"a\.tif has values of 1 to 255, .* by the card: mend it"):
        check(path, low, high)
    assert check(path, 0, 255) == []


@pytest.mark.parametrize("fill", [-9999, 65_535])
@pytest.mark.parametrize("is_declared", [False, True])
def test_a_frequent_value_outside_the_range_is_warned_of_unless_declared(
    tmp_path, fill, is_declared
):
    image = draw_image(40, 50).astype(np.float32)
    image[:, :10] = fill
    options = {"nodata": fill} if is_declared else {}
    found = check(write_raster(tmp_path / "a.tif", image, **options), 0, 255)
    shown = "black" if fill < 0 else "white"
    wanted = f"has the value {fill:g} in 25% of its pixels, which becomes {shown}: if it means no"
    assert [wanted in warning for warning in found] == [True] * (not is_declared)
    assert all(f"`gdal_edit.py -a_nodata {fill:g} FILE`" in warning for warning in found)


def test_rare_values_outside_and_a_constant_image_inside_are_not_warned_of(tmp_path):
    image = draw_image(40, 50).astype(np.float32)
    image[0, 0, :5] = -9999
    assert check(write_raster(tmp_path / "a.tif", image), 0, 255) == []
    assert check(write_raster(tmp_path / "b.tif", np.full((3, 9, 9), 7, np.int16)), 0, 255) == []
