"""The table of tiles gives back what went in, so that any score can be computed again."""

import numpy as np
import pytest

from pointcover.evaluation.tile_confusions import read_tile_confusions, write_tile_confusions
from pointcover.metrics.confusion import scores
from pointcover.tileset.tiles import Tile

NAMES = ("field > meadow", "road, paved", "eau «claire»")


def tiles_of(*places):
    return [
        Tile(f"{region}_{k}", region, region, split, 0, 0, 64, 64, (1, 0, 0))
        for k, (region, split) in enumerate(places)
    ]


TILES = tiles_of(("Tile 3", "test"), ("Tile 3", "test"), ("a,b/c.tif", "val"))
COUNTS = np.random.default_rng(0).integers(0, 2**40, (3, 3, 3))


def test_tables_are_read_back_for_any_names(tmp_path):
    write_tile_confusions(tmp_path / "tiles.csv", TILES, COUNTS, NAMES)
    table = read_tile_confusions(tmp_path / "tiles.csv")
    assert table.tiles == tuple(tile.id for tile in TILES)
    assert table.regions == ("Tile 3", "Tile 3", "a,b/c.tif")
    assert table.splits == ("test", "test", "val")
    assert table.names == NAMES
    assert np.array_equal(table.confusions, COUNTS)
    test = table.of_split("test")
    assert test.tiles == table.tiles[:2]
    assert scores(test.confusions.sum(axis=0), NAMES) == scores(COUNTS[:2].sum(axis=0), NAMES)


def test_equal_counts_are_equal_bytes_and_few(tmp_path):
    confusions = np.random.default_rng(0).multinomial(512**2, np.ones(36) / 36, 500)
    tiles = tiles_of(*[("a", "test")] * 500)
    for name in ("one.csv", "two.csv"):
        names = [f"class {k}" for k in range(6)]
        write_tile_confusions(tmp_path / name, tiles, confusions.reshape(-1, 6, 6), names)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert (tmp_path / "one.csv").stat().st_size < 500 * 250


def test_a_split_without_tiles_is_a_table_without_rows(tmp_path):
    write_tile_confusions(tmp_path / "tiles.csv", [], np.zeros((0, 3, 3), np.int64), NAMES)
    table = read_tile_confusions(tmp_path / "tiles.csv")
    assert table.names == NAMES
    assert table.confusions.shape == (0, 3, 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "tile,region,split,a>a,a>b\nx,y,test,1,2\n",
        "tile,region,split,a>a\nx,y,test,1.5\n",
        "tile,region,split,a>a\nx,y,test\n",
    ],
)
def test_a_damaged_table_is_an_error_with_its_name_and_a_remedy(text, tmp_path):
    (tmp_path / "tiles.csv").write_text(text)
    with pytest.raises(ValueError, match=r"tiles\.csv is damaged .*run `dvc repro`"):
        read_tile_confusions(tmp_path / "tiles.csv")


def test_a_missing_table_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist: run `dvc repro`"):
        read_tile_confusions(tmp_path / "tiles.csv")
