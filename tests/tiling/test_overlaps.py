"""Splits share no ground, whatever the CRS, orientation and borders of their images."""

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine
from rasterio.warp import calculate_default_transform
from rasterio.windows import Window

from pointcover.datasets.card import Pair
from pointcover.datasets.inventory import Inventory
from pointcover.tiling.overlaps import check_overlaps
from tests.imagery import CRS, draw_image, make_card, write_raster

SPLITS = {"a.tif": "train", "b.tif": "val", "c.tif": "test"}
TURNS = {
    "north up": Affine.identity(),
    "south up": Affine(1, 0, 0, 0, -1, 100),
    "mirrored": Affine(-1, 0, 130, 0, 1, 0),
    "turned": Affine.translation(65, 50) @ Affine.rotation(180) @ Affine.translation(-65, -50),
}


def place(x, turn="north up"):
    """Return the transform of 100 × 130 px that begin x pixels east."""
    return Affine(0.25, 0, 500_000 + 0.25 * x, 0, -0.25, 600_000) @ TURNS[turn]


def check(folder, card=None, splits=SPLITS):
    pairs = tuple(Pair(name[0], name, name, None) for name in splits)
    check_overlaps(Inventory(card or make_card(may_overlap=False), folder, pairs), splits)


def refusal(folder):
    with pytest.raises(
        ValueError, match=r"images of different splits show the same ground"
    ) as said:
        check(folder)
    return str(said.value)


@pytest.mark.parametrize("turn", TURNS)
def test_strips_that_overlap_are_named_with_their_proportions(tmp_path, turn):
    for name, x in (("a", 0), ("b", 65), ("c", 195)):
        write_raster(tmp_path / f"{name}.tif", draw_image(100, 130), transform=place(x, turn))
    lines = refusal(tmp_path).splitlines()
    assert lines[1:] == ["  - 50 % of val lies on train (b.tif on a.tif 50 %)"]
    check(tmp_path, make_card(may_overlap=True))
    check(tmp_path, splits=dict.fromkeys(SPLITS, "train"))


def test_ground_that_several_images_show_counts_once(tmp_path):
    for name, x in (("a", 0), ("d", 0), ("b", 65), ("c", 78)):
        write_raster(tmp_path / f"{name}.tif", draw_image(100, 130), transform=place(x))
    with pytest.raises(ValueError, match="same ground") as said:
        check(tmp_path, splits=SPLITS | {"d.tif": "train"})
    assert [line.split(" (")[0] for line in str(said.value).splitlines()[1:]] == [
        "  - 50 % of val lies on train",
        "  - 41 % of test lies on train",
        "  - 91 % of test lies on val",
    ]


@given(step=st.integers(130, 300), turn=st.sampled_from(sorted(TURNS)))
@settings(max_examples=10)
def test_images_side_by_side_share_nothing(tmp_path_factory, step, turn):
    folder = tmp_path_factory.mktemp("side")
    for name, x in (("a", 0), ("b", step), ("c", 2 * step)):
        write_raster(folder / f"{name}.tif", draw_image(100, 130), transform=place(x, turn))
    check(folder)


def test_borders_without_data_share_nothing(tmp_path):
    left, right = draw_image(100, 130), draw_image(100, 130)
    left[:, :, 65:], right[:, :, :65] = 0, 0
    for name, x, image in (("a", 0, left), ("b", 0, right), ("c", 200, left)):
        write_raster(tmp_path / f"{name}.tif", image, nodata=0, transform=place(x))
    check(tmp_path)
    write_raster(tmp_path / "b.tif", left, nodata=0, transform=place(0))
    assert "100 % of val lies on train" in refusal(tmp_path)


def test_blocks_that_were_never_written_share_nothing(tmp_path):
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 64, "width": 128}
    profile |= {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True, "crs": CRS}
    for name, x, col in (("a", 0, 0), ("b", 64, 64), ("c", 500, 0)):  # a has no data where b lies
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile, transform=place(x)) as file:
            file.write(draw_image(64, 64), window=Window(col, 0, 64, 64))
    check(tmp_path)
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.write(draw_image(64, 64), window=Window(64, 0, 64, 64))
    check(tmp_path)  # b has none there
    with rasterio.open(tmp_path / "b.tif", "r+") as file:
        file.write(draw_image(64, 64), window=Window(0, 0, 64, 64))
    assert "b.tif on a.tif 50 %" in refusal(tmp_path)


def test_images_in_different_crss_are_compared_on_the_ground(tmp_path):
    for name, x in (("a", 0), ("b", 65), ("c", 400)):
        write_raster(tmp_path / f"{name}.tif", draw_image(100, 130), transform=place(x))
    bounds = rasterio.transform.array_bounds(100, 130, place(65))
    transform, width, height = calculate_default_transform(CRS, "EPSG:32633", 130, 100, *bounds)
    image = np.ones((3, height, width), np.uint8)
    write_raster(tmp_path / "b.tif", image, crs="EPSG:32633", transform=transform)
    (line,) = refusal(tmp_path).splitlines()[1:]
    assert 45 <= int(line.split()[1]) <= 55


@pytest.mark.parametrize("options", [{"crs": None}, {"transform": None}])
def test_images_that_do_not_say_where_they_lie_are_not_compared(tmp_path, options):
    for name in "abc":
        write_raster(tmp_path / f"{name}.tif", draw_image(100, 130), **options)
    check(tmp_path)


def test_the_tile_stage_refuses_overlaps(project):
    project.write_card(may_overlap=False)
    said = project.refusal("download", "tile")
    assert "100 % of val lies on train (images/b.tif on images/a.tif 100 %)" in said
    assert "set `may_overlap: true` in the card, or in one of your own that `extends` it" in said
