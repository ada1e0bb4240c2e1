"""The table of tiles holds what went in, so that any score can be computed again."""

import csv

import numpy as np

from pointcover.evaluation.tile_confusions import write_tile_confusions
from pointcover.tileset.tiles import Tile

NAMES = ("field > meadow", "road, paved", "eau «claire»")


def read_confusions(path, split, names):
    """Return the confusion matrices of a split's tiles, (tiles, C, C)."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    cells = [[int(row[f"{true}>{guess}"]) for true in names for guess in names] for row in rows]
    return np.array(cells, np.int64).reshape(-1, len(names), len(names))


def tiles_of(*places):
    return [
        Tile(f"{region}_{k}", region, region, split, 0, 0, 64, 64, (1, 0, 0))
        for k, (region, split) in enumerate(places)
    ]


TILES = tiles_of(("Tile 3", "test"), ("Tile 3", "test"), ("a,b/c.tif", "val"))
COUNTS = np.random.default_rng(0).integers(0, 2**40, (3, 3, 3))


def test_a_table_holds_the_counts_of_any_names(tmp_path):
    write_tile_confusions(tmp_path / "tiles.csv", TILES, COUNTS, NAMES)
    assert np.array_equal(read_confusions(tmp_path / "tiles.csv", "test", NAMES), COUNTS[:2])
    assert np.array_equal(read_confusions(tmp_path / "tiles.csv", "val", NAMES), COUNTS[2:])
    with (tmp_path / "tiles.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["tile"] for row in rows] == [tile.id for tile in TILES]
    assert [row["region"] for row in rows] == ["Tile 3", "Tile 3", "a,b/c.tif"]


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
    (header,) = (tmp_path / "tiles.csv").read_text("utf-8").splitlines()
    assert header.startswith("tile,region,split,field > meadow>field > meadow,")
