"""The inventory changes with what files beside rasters add to them, and with nothing else."""

import shutil

import numpy as np
import pytest
import rasterio

from pointcover.datasets.inventory import read_inventory, write_inventory
from pointcover.raster.raster_io import open_dataset
from tests.imagery import draw_image, draw_mask, make_card, write_raster

AUX = "<PAMDataset>{}</PAMDataset>"
STATISTICS = AUX.format(
    '<PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MEAN">3</MDI></Metadata>'
    "</PAMRasterBand>"
)
NODATA = AUX.format('<PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand>')


@pytest.fixture
def source(tmp_path):
    plain = {"crs": None, "transform": None}
    folder = tmp_path / "source"
    write_raster(folder / "images/a.tif", draw_image(20, 30), **plain)
    write_raster(folder / "masks/a.tif", draw_mask(20, 30), **plain)
    (tmp_path / "out").mkdir()
    return folder


def inventory_of(source):
    path = source.parent / "out" / "dataset.json"
    write_inventory(path, make_card(), source, here=path.parent, source=source)
    return path


def add_mask(path):
    other = path.with_name("other.tif")
    shutil.copy(path, other)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), open_dataset(other, "r+") as file:
        file.write_mask(np.eye(20, 30) > 0)
    other.unlink()
    other.with_name("other.tif.msk").rename(path.with_name("a.tif.msk"))


ADDED = {
    "world file": lambda path: path.with_suffix(".tfw").write_text("1\n0\n0\n-1\n5\n6\n"),
    "nodata": lambda path: path.with_name("a.tif.aux.xml").write_text(NODATA),
    "mask": add_mask,
}


@pytest.mark.parametrize("which", ["images", "masks"])
@pytest.mark.parametrize("what", ADDED)
def test_what_a_file_beside_a_raster_adds_changes_the_inventory(source, which, what):
    before = inventory_of(source).read_text()
    ADDED[what](source / which / "a.tif")
    path = inventory_of(source)
    assert path.read_text() != before
    read_inventory(path, source)
    for file in (source / which).iterdir():
        if file.name != "a.tif":
            file.unlink()
    with pytest.raises(ValueError, match=r"files beside .*a\.tif or its mask .* are not those"):
        read_inventory(path, source)


def test_statistics_that_qgis_leaves_do_not(source):
    before = inventory_of(source).read_text()
    image = source / "images/a.tif"
    image.with_name("a.tif.aux.xml").write_text(STATISTICS)
    with open_dataset(image) as file:
        assert len(file.files) == 2
    assert inventory_of(source).read_text() == before
