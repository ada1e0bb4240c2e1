"""A picture that its tag turns is refused wherever it is read, unless it says where it lies."""

import io
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from pointcover.maps.orthophotos import open_orthophoto
from pointcover.maps.settings import ReadingSettings
from pointcover.raster.orientation import TURNS, UPRIGHT, read_orientation
from pointcover.raster.raster_io import RasterReader
from tests.imagery import draw_image
from tests.map_models import TILE_SET


def save(path, orientation, image=None):
    """Write a picture with the tag Orientation, as cameras do; None leaves the tag out."""
    picture = Image.fromarray((draw_image(20, 30) if image is None else image).transpose(1, 2, 0))
    options = {}
    if orientation is not None:
        exif = Image.Exif()
        exif[274] = orientation
        options = {"exif": exif}
        if path.suffix == ".tif":
            options = {"tiffinfo": {274: orientation}}
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [None, UPRIGHT, *TURNS, 9])
def test_a_turned_picture_is_refused_by_name_and_others_are_read(tmp_path, ending, orientation):
    path = save(tmp_path / f"a.{ending}", orientation)
    if orientation not in TURNS:
        assert read_orientation(path) == UPRIGHT
        with closing(RasterReader(path)) as reader:
            assert reader.info().height == 20
        return
    assert read_orientation(path) == orientation
    said = rf"a\.{ending} is {TURNS[orientation]} by its tag Orientation \({orientation}\)"
    with pytest.raises(ValueError, match=said):
        RasterReader(path).info()
    with pytest.raises(ValueError, match=said):
        open_orthophoto(path, [TILE_SET], ReadingSettings())


def test_a_world_file_places_the_pixels_as_they_are_stored(tmp_path):
    path = save(tmp_path / "a.jpg", 6)
    path.with_suffix(".jgw").write_text("1\n0\n0\n-1\n100\n200\n")
    with closing(RasterReader(path)) as reader:
        assert (reader.info().height, reader.info().width) == (20, 30)


def test_big_endian_tiffs_and_big_tiffs_have_the_tag_too(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(
        buffer, "TIFF", tiffinfo={274: 3}, big_tiff=True
    )
    (tmp_path / "big.tif").write_bytes(buffer.getvalue())
    assert read_orientation(tmp_path / "big.tif") == 3
    entry = (274).to_bytes(2) + (3).to_bytes(2) + (1).to_bytes(4) + (8).to_bytes(2) + b"\0\0"
    (tmp_path / "motorola.tif").write_bytes(b"MM\0*" + (8).to_bytes(4) + b"\0\1" + entry)
    assert read_orientation(tmp_path / "motorola.tif") == 8


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_a_file_cut_anywhere_says_nothing_and_does_not_hang(tmp_path, ending):
    path = save(tmp_path / f"a.{ending}", 6)
    data = path.read_bytes()
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        assert read_orientation(path) in (UPRIGHT, 6)


def test_the_tile_stage_refuses_a_turned_picture(project):
    for path in project.data.glob("*/*.tif"):
        path.unlink()
    for name in "abc":
        save(project.data / "images" / f"{name}.jpg", 6 if name == "a" else None)
        mask = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
        Image.fromarray(mask).save(project.data / "masks" / f"{name}.png")
    project.write_card(
        images="images/*.jpg",
        masks="masks/*.png",
        split={"val": ["images/b.jpg"], "test": ["images/c.jpg"]},
    )
    said = project.refusal("download", "tile")
    assert "images/a.jpg is turned by 90° clockwise by its tag Orientation (6)" in said
    assert "`magick mogrify -auto-orient FILE`" in said
