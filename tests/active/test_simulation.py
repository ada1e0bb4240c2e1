"""A simulated round: the model queries train tiles, dense masks answer, clicks accumulate."""

import csv
import shutil

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from pointcover.active.select import Suggestion
from pointcover.active.simulation import SimulatedRound, is_away
from pointcover.raster.raster_io import open_dataset
from pointcover.tileset.tiles import read_index, read_tile_set
from tests.imagery import load_stage, read_tree
from tests.map_models import save_model

N = 255


@pytest.fixture
def trained(project, blank_pictures):
    """A project with clicks and a model, which has learned nothing."""
    project.set({"points": 5, "annotate.propagator": "none", "suggest.points": 3})
    project.run_once("download", "tile", "annotate")
    tile_set = read_tile_set(project.root / "data/tiles/tiles.json")
    save_model(project.root / "models", tile_set=tile_set)
    return project


def ask(project, acquisition="margin"):
    load_stage("suggest").suggest(acquisition, project.params())
    return project.root / "data" / "next" / acquisition


def read(path):
    with open_dataset(path) as file:
        return file.read(1)


def read_table(folder):
    with (folder / "suggestions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def train_rasters(project):
    tiles = read_index(project.root / "data/tiles/index.csv")
    train = [tile for tile in tiles if tile.split == "train"]
    return train, sorted({tile.orthophoto for tile in train})


@pytest.mark.parametrize("acquisition", ["margin", "entropy", "disagreement", "confidence"])
def test_answers_are_those_of_the_dense_masks_and_all_clicks_are_kept(trained, acquisition):
    trained.set({"suggest.views": "d4" if acquisition == "disagreement" else "one"})
    out = ask(trained, acquisition)
    tiles, names = train_rasters(trained)
    table = read_table(out)
    assert len(table) == 3 * len(tiles)
    classes = read_tile_set(trained.root / "data/tiles/tiles.json").classes.names
    for name in names:
        before = read(trained.root / f"data/sparse/clicks/train/{name}.tif")
        after = read(out / f"clicks/train/{name}.tif")
        dense = read(trained.root / f"data/tiles/masks/train/{name}.tif")
        assert np.array_equal(after[before != N], before[before != N])
        new = (after != N) & (before == N)
        assert np.array_equal(after[new], dense[new])
        rows = [row for row in table if row["orthophoto"] == name]
        places = [(int(row["row"]), int(row["col"])) for row in rows]
        assert sorted(places) == sorted(map(tuple, np.argwhere(new).tolist()))
        assert pdist(places).min() >= 8
        assert [row["answer"] for row in rows] == [classes[dense[place]] for place in places]
    assert not (out / "clicks" / "val").exists()


@pytest.mark.parametrize("fraction", [1, 0.5, 0])
def test_the_model_is_wrong_at_a_fraction_of_the_queries(trained, fraction):
    trained.set({"suggest.points": 4})
    rows = read_table(ask(trained, "confidence"))
    assert 0 < sum(row["predicted"] != row["answer"] for row in rows) < len(rows)
    trained.set({"suggest.error_fraction": fraction})
    rows = read_table(ask(trained, "confidence"))
    wrong = [row["predicted"] != row["answer"] for row in rows]
    assert len(rows) == 4 * len(train_rasters(trained)[0])
    assert sum(wrong) == fraction * len(rows)
    assert wrong == sorted(wrong, reverse=True)
    for name in train_rasters(trained)[1]:
        places = [(int(row["row"]), int(row["col"])) for row in rows if row["orthophoto"] == name]
        assert pdist(places).min() >= 8


def test_where_errors_are_too_few_the_other_queries_are_where_the_model_is_right(trained):
    trained.set({"suggest.points": 20, "suggest.error_fraction": 1, "suggest.distance_px": 12})
    few = read_table(ask(trained, "confidence"))
    trained.set({"suggest.error_fraction": 0.99})
    rows = read_table(ask(trained, "confidence"))
    wrong = [row["predicted"] != row["answer"] for row in rows]
    assert len(few) < 0.99 * 20 * len(train_rasters(trained)[0])
    assert sum(wrong) == len(few) < len(rows)


@pytest.mark.parametrize("distance_px", [1, 2.5, 30])
def test_pixels_keep_their_distance_from_queries(distance_px):
    queries = [Suggestion(0, row, col, 1.0, 0) for row, col in ((0, 3), (12, 0), (15, 19), (40, 5))]
    found = is_away(queries, distance_px, 10, np.zeros((8, 20), np.uint8))
    rows, cols = np.mgrid[10:18, :20]
    wanted = np.ones((8, 20), bool)
    for query in queries:
        wanted &= np.hypot(rows - query.row, cols - query.col) >= distance_px
    np.testing.assert_array_equal(found, wanted)


def test_the_next_round_begins_with_all_clicks_and_val_keeps_its_own(trained):
    shutil.copytree(ask(trained), trained.root / "round1")
    val = read_tree(trained.root / "data/sparse/clicks/val")
    trained.set({"annotations": "round1"})
    trained.run("annotate")
    for name in train_rasters(trained)[1]:
        given = read(trained.root / f"round1/clicks/train/{name}.tif")
        assert np.array_equal(read(trained.root / f"data/sparse/clicks/train/{name}.tif"), given)
    assert read_tree(trained.root / "data/sparse/clicks/val") == val
    # Another round asks elsewhere, and nothing else need click.
    again = ask(trained)
    assert "suggestions.csv" in {path.name for path in again.iterdir()}
    for name in train_rasters(trained)[1]:
        given = read(trained.root / f"round1/clicks/train/{name}.tif")
        more = read(again / f"clicks/train/{name}.tif")
        assert (more != N).sum() > (given != N).sum()
        assert np.array_equal(more[given != N], given[given != N])


def test_the_same_params_make_the_same_queries(trained):
    first = read_tree(ask(trained))
    assert read_tree(ask(trained)) == first


def test_unlabelled_and_clicked_pixels_are_not_queried(trained):
    for name in train_rasters(trained)[1]:
        path = trained.root / f"data/tiles/masks/train/{name}.tif"
        with open_dataset(path, "r+") as file:
            values = file.read(1)
            values[:, values.shape[1] // 2 :] = N
            file.write(values, 1)
    trained.set({"suggest.points": 500, "suggest.distance_px": 1})
    table = read_table(ask(trained))
    for name in train_rasters(trained)[1]:
        dense = read(trained.root / f"data/tiles/masks/train/{name}.tif")
        before = read(trained.root / f"data/sparse/clicks/train/{name}.tif")
        for row in table:
            if row["orthophoto"] == name:
                place = int(row["row"]), int(row["col"])
                assert dense[place] != N
                assert before[place] == N


def test_a_total_counts_all_queries(trained):
    tiles, _ = train_rasters(trained)
    simulated = SimulatedRound(
        trained.root / "data/tiles",
        trained.root / "data/sparse/clicks",
        trained.params().suggest,
        seed=1,
    )
    assert simulated.count_queries("per_tile") == 3 * len(tiles)
    assert simulated.count_queries("total") == 3


def test_without_dense_masks_a_simulated_round_is_refused(trained):
    index = trained.root / "data/tiles/index.csv"
    head, *rows = index.read_text().splitlines()
    pixels = sum(name.startswith("pixels") for name in head.split(","))
    bare = [",".join(row.split(",")[:-pixels] + ["0"] * pixels) for row in rows]
    index.write_text("\n".join([head, *bare]) + "\n")
    with pytest.raises(ValueError, match=r"no dense masks to answer queries.*pointcover suggest"):
        ask(trained)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("other names", "has no raster of this dataset's orthophotos: got train/z.tif, wanted"),
        ("other grid", "wanted one of .* clicks lie on the pixels of the tile stage's images"),
        ("other classes", "holds the class id 77, wanted 0 to"),
    ],
)
def test_click_rasters_of_another_tile_set_are_refused(trained, fault, message):
    clicks = trained.root / "given" / "clicks" / "train"
    clicks.mkdir(parents=True)
    name = train_rasters(trained)[1][0]
    values = read(trained.root / f"data/sparse/clicks/train/{name}.tif").copy()
    if fault == "other grid":
        values = values[:-1]
    if fault == "other classes":
        values[0, 0] = 77
    path = clicks / ("z.tif" if fault == "other names" else f"{name}.tif")
    with open_dataset(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype="uint8",
    ) as file:
        file.write(values, 1)
    trained.set({"annotations": "given"})
    with pytest.raises(ValueError, match=message):
        trained.run("annotate")


def test_click_rasters_alone_are_labels_enough(trained):
    folder = trained.root / "given"
    shutil.copytree(trained.root / "data/sparse/clicks", folder / "clicks")
    before = read_tree(trained.root / "data/sparse/clicks")
    trained.set({"annotations": "given", "annotate.sampler": "none"})
    trained.run("annotate")
    assert read_tree(trained.root / "data/sparse/clicks") == before
