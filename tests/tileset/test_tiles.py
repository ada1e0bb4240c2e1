"""What is written about tiles is read back as it was, and a tile is the pixels of its place."""

import dataclasses
import pickle
import re

import numpy as np
import pytest

from pointcover.labels import ClassTable
from pointcover.tileset.tiles import (
    Tile,
    TileReader,
    TileSet,
    raster_path,
    read_index,
    read_tile_set,
    write_index,
    write_tile_set,
)
from tests.imagery import draw_image, write_raster

TILE_SET = TileSet(
    classes=ClassTable(("land", "water"), ((1, 2, 3), (255, 0, 16))),
    size_px=64,
    gsds_m=(0.25, 0.5),
    mean=(1.5, 0.1, 2.0),
    std=(1.0, 1 / 3, 2.5),
    value_range=(0.0, 2047.0),
    bands=(3, 2, 1),
)
TILE = Tile("a_1", "a", "images/a, b.tif", "train", 0, 64, 64, 36, (5, 0))


def test_a_tile_set_is_read_back_to_the_last_bit(tmp_path):
    write_tile_set(tmp_path / "tiles.json", TILE_SET)
    assert read_tile_set(tmp_path / "tiles.json") == TILE_SET


def test_an_index_is_read_back_with_its_pixels_by_class(tmp_path):
    tiles = [TILE, dataclasses.replace(TILE, id="b_0", split="test", pixels=(0, 7))]
    write_index(tmp_path / "index.csv", tiles, ("land", "water"))
    assert read_index(tmp_path / "index.csv") == tiles
    header, first, _ = (tmp_path / "index.csv").read_text().splitlines()
    assert header.endswith("row_off,col_off,height,width,pixels_land,pixels_water")
    assert first == 'a_1,a,"images/a, b.tif",train,0,64,64,36,5,0'


def test_what_an_earlier_stage_did_not_write_is_named_with_the_command_that_does(tmp_path):
    for read, name in ((read_index, "index.csv"), (read_tile_set, "tiles.json")):
        with pytest.raises(FileNotFoundError, match=f"{name} does not exist: run `dvc repro`"):
            read(tmp_path / name)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate("abcde"):
        write_raster(raster_path(tmp_path, "train", name), draw_image(64, 100, seed=number))
    return tmp_path


def tile_of(name):
    return dataclasses.replace(TILE, orthophoto=name)


def test_a_tile_at_the_edge_is_padded_with_the_fill_value(folder):
    values = TileReader(folder, 64, fill=9).read(tile_of("b"))
    assert values.shape == (3, 64, 64)
    assert np.array_equal(values[:, :, :36], draw_image(64, 100, seed=1)[:, :, 64:])
    assert (values[:, :, 36:] == 9).all()


def test_closing_the_least_used_files_changes_no_pixel(folder, monkeypatch):
    monkeypatch.setattr(TileReader, "MAX_OPEN", 2)
    reader = TileReader(folder, 64, fill=0)
    for name in "abcabdeedcba":
        wanted = draw_image(64, 100, seed="abcde".index(name))[:, :, 64:]
        assert np.array_equal(reader.read(tile_of(name))[:, :, :36], wanted)
        assert len(reader._readers) <= 2


def test_a_reader_travels_to_another_process(folder):
    reader = TileReader(folder, 64, fill=0)
    before = reader.read(tile_of("a"))
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read(tile_of("a")), before)


def test_a_missing_raster_is_named(folder):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{folder}/train/z.tif does not exist")):
        TileReader(folder, 64, fill=0).read(tile_of("z"))
