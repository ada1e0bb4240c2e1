"""The environment does not change what is read (OSGeo/gdal#909, versatiles-rs#261)."""

import os

import numpy as np
import pytest
import rasterio

from pointcover.raster.environment import OPTIONS
from pointcover.raster.raster_io import RasterReader, Window
from tests.imagery import CRS, PLACE, draw_image, write_raster

WORLD = "0.25\n0\n0\n-0.25\n500000.125\n599999.875\n"
NODATA = '<PAMDataset><PAMRasterBand band="1"><NoDataValue>0</NoDataValue></PAMRasterBand>'


def write_companions(folder):
    """Write a raster that a world file places, one with nodata beside it, one of points."""
    image = draw_image(8, 8)
    image[:, 0] = 0
    write_raster(folder / "world.tif", image, crs=None, transform=None)
    (folder / "world.tfw").write_text(WORLD)
    write_raster(folder / "nodata.tif", image[:1])
    (folder / "nodata.tif.aux.xml").write_text(f"{NODATA}</PAMDataset>")
    with rasterio.open(write_raster(folder / "points.tif", image), "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    path = write_raster(folder / "mask.tif", draw_image(8, 8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.arange(64).reshape(8, 8) >= 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR"),
        ("GDAL_PAM_ENABLED", "NO"),
        ("GTIFF_POINT_GEO_IGNORE", "TRUE"),
        ("GDAL_GEOREF_SOURCES", "NONE"),
    ],
)
def test_an_option_that_hides_places_or_nodata_is_left_out(
    tmp_path, monkeypatch, caplog, name, value
):
    write_companions(tmp_path)
    monkeypatch.setenv(name, value)
    window = Window(0, 0, 8, 8)
    for stem in ("world", "nodata", "points", "mask"):
        reader = RasterReader(tmp_path / f"{stem}.tif")
        assert reader.info().transform == PLACE
        assert reader.info().crs == (None if stem == "world" else CRS)
        assert reader.read_valid(window)[0].any() == (stem in ("world", "points"))
        assert reader.read_valid(window)[1:].all()
    assert name not in os.environ
    assert caplog.messages == [
        f"{name}={value} of the environment is left out, since by it {OPTIONS[name]}"
    ]
