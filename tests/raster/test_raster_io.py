"""Rasters are read as they are or not at all, and written files are read back before they count."""

import multiprocessing
import pickle
import struct
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from pointcover.labels import ClassTable
from pointcover.raster import raster_io as raster
from pointcover.raster.raster_io import (
    GeoTiffProfile,
    RasterReader,
    ResampledReader,
    Window,
    pad,
    write_geotiff,
    write_mask,
)
from tests.imagery import CRS, PLACE, draw_image, write_raster
from tests.processes import run_python

WHOLE = Window(0, 0, 50, 40)


@pytest.fixture
def image():
    return draw_image(40, 50)


@pytest.fixture
def path(tmp_path, image):
    return write_raster(tmp_path / "a.tif", image)


# Reading


def test_a_folder_is_called_one(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder, wanted a raster file: .*/\*\.tif"):
        RasterReader(tmp_path).info()


def test_a_geo_key_that_gdal_cannot_read_is_damage(path):
    """Of no known type, beside a tag that points beyond the file: GDAL's error gets through."""
    data = bytearray(path.read_bytes())
    tag, key = (
        data.index(struct.pack("<HH", 33550, 12)),
        data.index(struct.pack("<HH", 1026, 34737)),
    )
    data[tag + 11] = 15
    data[key + 2] = 52
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tif is damaged: .* cannot be read .*Copy it again"):
        RasterReader(path).info()


def test_a_raster_says_its_size_bands_place_and_gsd(path):
    info = RasterReader(path).info()
    assert (info.height, info.width, info.bands, info.dtype) == (40, 50, 3, "uint8")
    assert info.crs == CRS
    assert info.transform == PLACE
    assert info.is_georeferenced


def test_a_photograph_without_a_place_is_read_without_a_warning(tmp_path, image):
    code = """
        import sys
        from pathlib import Path
        from pointcover.raster.raster_io import RasterReader
        info = RasterReader(Path(sys.argv[1])).info()
        assert not info.is_georeferenced
    """
    path = write_raster(tmp_path / "a.png", image, driver="PNG", crs=None, transform=None)
    (tmp_path / "a.png.aux.xml").unlink(missing_ok=True)
    done = run_python(code, str(path))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_thread_that_restores_warnings_brings_none(tmp_path, image, monkeypatch):
    """`warnings.catch_warnings` is of the process: another thread leaves it as this one opens."""
    path = write_raster(tmp_path / "a.png", image, driver="PNG", crs=None, transform=None)
    raster.open_dataset(path).close()
    elsewhere = warnings.catch_warnings()
    elsewhere.__enter__()

    def open_late(*arguments, opened=rasterio.open, **options):
        elsewhere.__exit__(None, None, None)
        return opened(*arguments, **options)

    monkeypatch.setattr(rasterio, "open", open_late)
    raster.open_dataset(path).close()


@settings(max_examples=40)
@given(
    row=st.integers(0, 39),
    col=st.integers(0, 49),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
)
def test_a_window_holds_the_rasters_pixels_and_the_fill_value_beyond_its_edge(
    tmp_path_factory, row, col, height, width
):
    image = draw_image(40, 50)
    path = tmp_path_factory.getbasetemp() / "window.tif"
    if not path.exists():
        write_raster(path, image)
    values = RasterReader(path).read(Window(col, row, width, height), bands=[3, 1], fill=7)
    padded = np.full((2, 100, 110), 7, np.uint8)
    padded[:, :40, :50] = image[[2, 0]]
    assert np.array_equal(values, padded[:, row : row + height, col : col + width])


def test_pad_extends_below_and_to_the_right_only():
    assert pad(np.array([[1, 2]]), 2, 3, 9).tolist() == [[1, 2, 9], [9, 9, 9]]


def test_a_palette_image_is_read_as_the_colours_it_shows(tmp_path):
    indexes = np.array([[0, 1], [2, 1]], np.uint8)
    palette = {0: (60, 16, 152), 1: (0, 0, 0), 2: (132, 41, 246)}
    path = write_raster(tmp_path / "a.png", indexes, driver="PNG", palette=palette)
    rgb = RasterReader(path).read_rgb(Window(0, 0, 2, 2))
    assert rgb.transpose(1, 2, 0).tolist() == [
        [[60, 16, 152], [0, 0, 0]],
        [[132, 41, 246], [0, 0, 0]],
    ]


def test_a_mask_of_one_grey_band_is_no_colour_mask(tmp_path):
    path = write_raster(tmp_path / "grey.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"grey\.tif has 1 band\(s\) of uint8, wanted a palette"):
        RasterReader(path).read_rgb(Window(0, 0, 4, 4))


def test_pixels_without_data_are_told_by_nodata_alpha_and_internal_mask(tmp_path, image):
    window, hole = Window(0, 0, 50, 40), (slice(3, 9), slice(5, 20))
    wanted = np.ones((40, 50), bool)
    wanted[hole] = False

    image[:, *hole] = 0
    nodata = write_raster(tmp_path / "nodata.tif", image, nodata=0)
    assert np.array_equal(RasterReader(nodata).read_valid(window), wanted)

    alpha = write_raster(
        tmp_path / "alpha.tif", np.concatenate([image, wanted[None] * np.uint8(255)])
    )
    with rasterio.open(alpha, "r+") as file:
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    assert np.array_equal(RasterReader(alpha).read_valid(window), wanted)

    masked = write_raster(tmp_path / "masked.tif", image)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(masked, "r+") as file:
        file.write_mask(wanted)
    assert np.array_equal(RasterReader(masked).read_valid(window), wanted)

    plain = write_raster(tmp_path / "plain.tif", image)
    assert RasterReader(plain).read_valid(window).all()


def test_black_in_one_band_alone_is_data_where_nodata_is_black(tmp_path):
    image = np.array([[[0, 0]], [[0, 5]], [[0, 0]]], np.uint8)
    path = write_raster(tmp_path / "a.tif", image, nodata=0)
    assert RasterReader(path).read_valid(Window(0, 0, 2, 1)).tolist() == [[False, True]]


# What is refused


def test_a_missing_an_empty_and_a_text_file_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.tif does not exist"):
        RasterReader(tmp_path / "a.tif").info()
    (tmp_path / "a.tif").touch()
    with pytest.raises(ValueError, match=r"a\.tif is empty \(0 bytes\).*copy it again"):
        RasterReader(tmp_path / "a.tif").info()
    (tmp_path / "a.tif").write_text("not an image")
    with pytest.raises(ValueError, match=r"a\.tif is no raster .*wanted GeoTIFF, PNG, JPEG"):
        RasterReader(tmp_path / "a.tif").info()


def test_a_vrt_in_a_tifs_clothes_is_refused(tmp_path, path):
    vrt = tmp_path / "b.tif"
    vrt.write_text(
        '<VRTDataset rasterXSize="50" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{path}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with raster.open_dataset(vrt) as opened:  # GDAL itself would follow it
        assert opened.driver == "VRT"
    with pytest.raises(ValueError, match=r"b\.tif is no raster \(it begins with b'<VRT"):
        RasterReader(vrt).info()


@pytest.mark.parametrize("driver", ["GTiff", "PNG", "JPEG", "JP2OpenJPEG"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
def test_a_file_cut_short_is_an_error_that_names_it_and_never_pixels(tmp_path, driver, part):
    path = write_raster(tmp_path / "cut", draw_image(400, 500), driver=driver)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])

    def read():
        return RasterReader(path).read(Window(0, 0, 500, 400))

    with pytest.raises(ValueError, match=r"/cut (is damaged or cut short|cannot be read).*again"):
        read()


def test_a_png_with_a_flipped_bit_is_an_error_that_names_it(tmp_path):
    path = write_raster(tmp_path / "a.png", draw_image(40, 50), driver="PNG")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png is damaged or cut short: its chunk at byte"):
        RasterReader(path).read(Window(0, 0, 50, 40))


def test_a_damaged_block_is_an_error_that_names_the_rows(tmp_path):
    path = tmp_path / "a.tif"
    write_raster(path, draw_image(64, 64), compress="deflate", blockysize=16)
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_2", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 200] = bytes(200)
    path.write_bytes(data)
    reader = RasterReader(path)
    reader.read(Window(0, 0, 64, 16))
    with pytest.raises(ValueError, match=r"a\.tif is damaged or cut short: rows 32 to 48"):
        reader.read(Window(0, 32, 64, 16))


# Processes


def test_a_forked_child_reads_the_right_pixels_while_its_parent_reads_too(tmp_path, image):
    path = write_raster(tmp_path / "a.tif", image, tiled=True, blockxsize=16, blockysize=16)
    reader = RasterReader(path)
    assert np.array_equal(reader.read(WHOLE), image)
    handle = reader.dataset
    context = multiprocessing.get_context("fork")
    wrong = context.Value("i", -1)

    def count_wrong():
        assert reader.dataset is not handle
        windows = [Window(col, row, 10, 10) for row in (0, 10, 20) for col in (0, 20, 40)] * 5
        wrong.value = sum(
            not np.array_equal(
                reader.read(w), image[:, w.row_off : w.row_off + 10, w.col_off : w.col_off + 10]
            )
            for w in windows
        )

    child = context.Process(target=count_wrong)
    child.start()
    assert all(np.array_equal(reader.read(WHOLE), image) for _ in range(20))
    child.join(20)
    assert (child.exitcode, wrong.value) == (0, 0)
    assert reader.dataset is handle


def test_a_reader_is_pickled_without_its_handle(path, image):
    reader = RasterReader(path)
    reader.info()
    copy = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(copy.read(WHOLE), image)
    assert copy.dataset is not reader.dataset


def test_a_closed_reader_opens_again(path, image):
    reader = RasterReader(path)
    reader.read(WHOLE)
    reader.close()
    assert np.array_equal(reader.read(WHOLE), image)


# Writing


def write(path, values, block_px=16, **options):
    bands, height, width = values.shape
    settings = {"crs": CRS, "transform": PLACE} | options
    with write_geotiff(
        path, GeoTiffProfile(height=height, width=width, bands=bands, block_px=block_px, **settings)
    ) as writer:
        for row in range(0, height, block_px):
            for col in range(0, width, block_px):
                part = values[:, row : row + block_px, col : col + block_px]
                writer.write(part, Window(col, row, part.shape[2], part.shape[1]))


def test_a_written_file_opens_anywhere_with_the_same_pixels_place_and_blocks(tmp_path, image):
    write(tmp_path / "a.tif", image, nodata=3, band_names=("red", "green", "blue"))
    with rasterio.open(tmp_path / "a.tif") as file:
        assert np.array_equal(file.read(), image)
        assert file.crs == CRS
        assert file.transform == PLACE
        assert file.nodata == 3
        assert set(file.block_shapes) == {(16, 16)}
        assert file.compression.name == "zstd"
        assert file.descriptions == ("red", "green", "blue")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_mask_carries_the_ignore_index_as_nodata_and_its_classes_colours(tmp_path, path):
    classes = ClassTable(("land", "water"), ((1, 2, 3), (4, 5, 6)))
    like = RasterReader(path).info()
    with write_mask(tmp_path / "m.tif", like=like, block_px=16, classes=classes) as writer:
        writer.write(np.ones((1, 16, 16), np.uint8), Window(16, 0, 16, 16))
    with rasterio.open(tmp_path / "m.tif") as file:
        values = file.read(1)
        assert file.nodata == 255
        assert (file.height, file.width, file.crs, file.transform) == (40, 50, CRS, PLACE)
        assert file.colormap(1)[0][:3] == (1, 2, 3)
        assert file.colormap(1)[1][:3] == (4, 5, 6)
    wanted = np.full((40, 50), 255)
    wanted[:16, 16:32] = 1
    assert np.array_equal(values, wanted)


def test_the_same_pixels_give_the_same_bytes(tmp_path, image):
    for name in ("a.tif", "b.tif"):
        write(tmp_path / name, image)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_file_that_reads_back_changed_is_an_error_and_is_not_published(
    tmp_path, image, monkeypatch
):
    def lose_a_block(self, values, window):
        """Zeros on the disk instead of what was to be written: a full disk, as GDAL does it."""
        lost = (window.row_off, window.col_off) == (16, 32)
        self._dataset.write(np.zeros_like(values) if lost else values, window=window)
        key = (window.col_off, window.row_off, window.width, window.height)
        self.checksums[key] = raster.zlib.crc32(values.tobytes())

    (tmp_path / "a.tif").write_text("old")
    monkeypatch.setattr(raster.BlockWriter, "write", lose_a_block)
    with pytest.raises(OSError, match=r"a\.tif could not be written \(the block at row 16, colu"):
        write(tmp_path / "a.tif", image)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_is_an_error_and_leaves_nothing_under_the_final_name(tmp_path):
    code = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from pointcover.raster.grids import north_up
        from pointcover.raster.raster_io import GeoTiffProfile, Window, write_geotiff
        path = Path(sys.argv[1])
        values = np.random.default_rng(0).integers(0, 256, (3, 128, 128), np.uint8)

        def write():
            profile = GeoTiffProfile(
                height=384, width=384, bands=3, block_px=128, crs="EPSG:2180",
                transform=north_up(0, 0, 1),
            )
            with write_geotiff(path, profile) as writer:
                for row in range(0, 384, 128):
                    for col in range(0, 384, 128):
                        writer.write(values, Window(col, row, 128, 128))

        for kilobytes in (0, 1, 10, 100, 350, 500):
            resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes << 10, resource.RLIM_INFINITY))
            try:
                write()
            except OSError as error:
                print(kilobytes, error, *path.parent.iterdir())
    """
    done = run_python(code, str(tmp_path / "a.tif"))
    assert done.returncode == 0, done.stderr
    *failures, last = done.stdout.splitlines()
    assert len(failures) == 4
    for line in [*failures, last]:
        assert "a.tif could not be written" in line
        assert line.endswith("is the disk full? Free some space and run the stage again")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]  # 500 kB were enough


def test_an_error_while_writing_leaves_nothing(tmp_path, image):
    def fail():
        with write_geotiff(
            tmp_path / "a.tif",
            GeoTiffProfile(height=40, width=50, bands=3, block_px=16, crs=CRS, transform=PLACE),
        ) as writer:
            writer.write(image, WHOLE)
            raise KeyError("elsewhere")

    with pytest.raises(KeyError, match="elsewhere"):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["PROJ_DATA", "PROJ_LIB"])
def test_a_crs_database_of_another_installation_is_named_by_its_variable(tmp_path, name):
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9))
    (tmp_path / "proj").mkdir()
    program = """
        import os, sys
        from pathlib import Path
        os.environ[sys.argv[1]] = sys.argv[2]
        from pointcover.raster.raster_io import RasterReader
        try:
            RasterReader(Path(sys.argv[3])).info()
        except ValueError as error:
            print(error)
    """
    said = run_python(program, name, str(tmp_path / "proj"), str(path)).stdout
    assert said.startswith("the database of CRSs cannot be read (The EPSG code is unknown. PROJ:")
    assert f"the environment has {name}={tmp_path / 'proj'}, which another installation" in said
    assert f"`unset {name}`" in said


@pytest.mark.parametrize(
    ("code", "name"), [(50002, "JXL"), (34712, "JP2000"), (33003, "of code 33003")]
)
def test_a_codec_that_gdal_lacks_is_named_with_a_way_out(tmp_path, code, name):
    path = write_raster(tmp_path / "a.tif", draw_image(9, 9), compress="deflate")
    data = bytearray(path.read_bytes())
    (begin,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[begin : begin + 2])
    for entry in range(begin + 2, begin + 2 + 12 * count, 12):
        if struct.unpack("<H", data[entry : entry + 2]) == (259,):  # Compression
            data[entry + 8 : entry + 10] = struct.pack("<H", code)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"is compressed with {name}, which the GDAL .* lacks"):
        RasterReader(path).info()


@pytest.mark.parametrize("kind", ["complex64", "complex128", "complex_int16"])
def test_complex_numbers_are_refused(tmp_path, kind):
    """Numpy would take their real part (rasterio#2182)."""
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 8, "width": 8, "dtype": kind}
    with rasterio.open(path, "w", **profile, crs=CRS, transform=PLACE) as file:
        file.write(np.full((1, 8, 8), 1 + 2j, np.complex64))
    with pytest.raises(ValueError, match=r"a\.tif holds complex numbers \(complex.* amplitude"):
        RasterReader(path).info()


@settings(max_examples=20)
@given(
    source=st.sampled_from(["value", "alpha", "mask", "sidecar", "nan", "blocks"]),
    interleave=st.sampled_from(["pixel", "band"]),
    resampled=st.booleans(),
)
def test_any_source_of_validity_gives_the_same_pixels(source, interleave, resampled):
    """Also through GDAL's resampling (rasterio#1191, #1632)."""
    valid = np.ones((64, 64), bool)
    valid[:32, 16:32] = False
    image = draw_image(64, 64).astype(np.float32 if source == "nan" else np.uint8)
    image[:, ~valid] = {"nan": np.nan, "value": 0}.get(source, 77)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.tif"
        write_validity(path, image, valid, source, interleave=interleave)
        reader = RasterReader(path)
        if resampled:
            reader, valid = ResampledReader(path, 32, 32, bands=(3, 1)), valid[::2, ::2]
        window = Window(0, 0, *reversed(valid.shape))
        found, has_data = reader.read_scaled(window, (3, 1), (0, 255))
        reader.close()
    assert np.array_equal(has_data, valid)
    assert not found[:, ~valid].any()
    if not resampled:
        assert np.array_equal(found[:, valid], image[[2, 0]][:, valid].astype(np.uint8))


def write_validity(path, image, valid, source, **options):
    """Write an image that says in one of several ways where it has data."""
    options |= {"tiled": True, "blockxsize": 16, "blockysize": 16}
    if source == "value":
        options["nodata"] = 0
    if source == "alpha":
        image = np.concatenate([image, np.where(valid, 255, 0).astype(np.uint8)[None]])
    if source == "blocks":
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 64, "width": 64}
        profile |= {"crs": CRS, "transform": PLACE, "sparse_ok": True}
        with rasterio.open(path, "w", **profile, **options) as file:
            for row, col in np.argwhere(valid[::16, ::16]) * 16:
                part = image[:, row : row + 16, col : col + 16]
                file.write(part, window=Window(col, row, 16, 16))
        return
    write_raster(path, image, **options)
    if source in ("mask", "sidecar"):
        is_inside = source == "mask"
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=is_inside), rasterio.open(path, "r+") as file:
            file.write_mask(valid)
