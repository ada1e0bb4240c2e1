"""The next clicks lie where the network uncertainties, apart from each other, over all images."""

import math
import sqlite3
import tracemalloc
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin
from scipy.spatial.distance import cdist, pdist
from shapely import LineString, Point, box
from torch import nn
from typer.testing import CliRunner

from pointcover.active.select import (
    Candidates,
    Squares,
    Turns,
    _find_beside,
    _without_border,
    best_of_strip,
    choose,
    draw_priorities,
    thin,
)
from pointcover.active.settings import ImageQuerySettings
from pointcover.active.suggest import Suggester
from pointcover.active.suggestion_file import write_suggestions
from pointcover.active.uncertainty import MOST, Uncertainties, score_disagreement
from pointcover.cli.app import app
from pointcover.datasets.card import find_pairs
from pointcover.labels import IGNORE_INDEX
from pointcover.maps.settings import ReadingSettings
from pointcover.networks.segmenter import Segmenter
from pointcover.raster.raster_io import RasterInfo, Window
from pointcover.runtime.devices import make_fabric
from pointcover.vectors.rasterize import PlacementReport, place_annotations
from pointcover.vectors.read import read_annotations
from pointcover.vectors.settings import VectorSettings
from tests.imagery import make_card, write_raster
from tests.map_models import CLASSES, identity_model, save_model


class Doubter(nn.Module):
    """Is as sure of the class that the first band names as the second band says, in percent."""

    def forward(self, values):
        sure = (values[:, 1:2] / 100).clamp(0.26, 0.999)
        named = nn.functional.one_hot(values[:, 0].long(), len(CLASSES)).movedim(-1, 1)
        rest = (1 - sure) / (len(CLASSES) - 1)
        return torch.log(named * sure + (1 - named) * rest)


def doubter():
    segmenter = Segmenter(Doubter(), (0.0,) * 3, (1.0,) * 3)
    return replace(identity_model(), network=segmenter)


def draw(path, sure, named=None, place=(500_000, 600_000)):
    """Write an image of what a Doubter is sure of (H, W), and of which class."""
    named = np.zeros_like(sure) if named is None else named
    write_raster(
        path,
        np.stack([named, sure, sure]).astype(np.uint8),
        transform=from_origin(*place, 0.25, 0.25),
    )
    return path


def suggest(images, count, **settings):
    wanted = ImageQuerySettings(points=count, **settings)
    suggester = Suggester(make_fabric("cpu", "fp32"), [doubter()], wanted)
    orthophotos = suggester.prepare(images, images[0].with_suffix(".gpkg"), ReadingSettings())
    return suggester.suggest(orthophotos, lambda rows: None), orthophotos


@pytest.mark.parametrize("acquisition", ["margin", "entropy"])
def test_queries_are_uncertain_pixels_at_a_distance_from_each_other(tmp_path, acquisition):
    sure = np.full((200, 300), 95)
    sure[40:120, 60:200] = 40
    found, _ = suggest(
        [draw(tmp_path / "a.tif", sure)], 12, acquisition=acquisition, distance_px=20
    )
    assert len(found) == 12
    assert all(40 <= one.row < 120 and 60 <= one.col < 200 for one in found)
    assert pdist([(one.row, one.col) for one in found]).min() >= 20
    assert [one.uncertainty for one in found] == sorted(
        (one.uncertainty for one in found), reverse=True
    )
    # Margin by hand: 0.4 against 0.2 each
    if acquisition == "margin":
        assert found[0].uncertainty == pytest.approx(0.8, abs=0.01)


def test_queries_depend_on_the_seed(tmp_path):
    image = draw(tmp_path / "a.tif", np.full((150, 150), 50))
    first, again, other = (suggest([image], 5, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_queries_alternate_between_images(tmp_path):
    images = [
        draw(tmp_path / "uncertain.tif", np.full((64, 64), 30)),
        draw(tmp_path / "sure.tif", np.full((300, 300), 90)),
    ]
    found, _ = suggest(images, 6, distance_px=30)
    assert [one.image for one in found[:4]] == [0, 1, 0, 1]
    many, _ = suggest(images, 1000, distance_px=30)
    assert len(many) < 1000
    for image in (0, 1):
        assert pdist([(one.row, one.col) for one in many if one.image == image]).min() >= 30


def test_queries_alternate_between_classes_with_by_class(tmp_path):
    named = np.zeros((200, 200))
    named[:, 150:] = 2
    sure = np.where(named == 2, 90, 40)
    image = draw(tmp_path / "a.tif", sure, named)
    plain, _ = suggest([image], 8, distance_px=15)
    turns, _ = suggest([image], 8, distance_px=15, by_class=True)
    assert {one.class_id for one in plain} == {0}
    assert sorted(one.class_id for one in turns) == [0] * 4 + [2] * 4


def test_a_class_that_is_nowhere_the_most_uncertain_has_queries_by_class(tmp_path):
    named = np.zeros((200, 240))
    named[:, 10::30] = named[:, 11::30] = named[:, 12::30] = 2  # roads in each square
    image = draw(tmp_path / "a.tif", np.where(named == 2, 60, 40), named)
    found, _ = suggest([image], 12, distance_px=32, by_class=True)
    assert [one.class_id for one in found] == [0, 2] * 6
    assert all(named[one.row, one.col] == one.class_id for one in found)
    assert pdist([(one.row, one.col) for one in found]).min() >= 32


def test_the_top_fraction_is_shuffled_and_the_others_follow(tmp_path):
    sure = np.repeat(np.arange(30, 90, 0.25)[None], 100, axis=0)  # 240 columns, surer to the right
    image = draw(tmp_path / "a.tif", sure)
    first, _ = suggest([image], 12, distance_px=8)
    drawn, _ = suggest([image], 12, distance_px=8, top_fraction=0.5)
    other, _ = suggest([image], 12, distance_px=8, top_fraction=0.5, seed=2)
    assert max(one.col for one in first) < 24
    assert 60 < max(one.col for one in drawn) < 120 + 8
    assert drawn != other
    assert drawn == suggest([image], 12, distance_px=8, top_fraction=0.5)[0]
    many, _ = suggest([image], 1000, distance_px=8, top_fraction=0.5)
    assert max(one.col for one in many) > 220
    assert pdist([(one.row, one.col) for one in many]).min() >= 8
    left = [one.col < 120 + 8 for one in many]
    assert left == sorted(left, reverse=True)


def test_drawn_queries_are_where_the_uncertain_places_of_all_images_are(tmp_path):
    doubtful = np.full((100, 100), 90)
    doubtful[:, :50] = 30  # a quarter of all pixels, half of the third image
    images = [
        draw(tmp_path / f"{name}.tif", values, place=(500_000 + 100 * number, 600_000))
        for number, (name, values) in enumerate(
            {"a": np.full((100, 100), 90), "b": np.full((60, 100), 90), "c": doubtful}.items()
        )
    ]
    found, _ = suggest(images, 30, distance_px=4, top_fraction=0.15)
    assert {one.image for one in found} == {2}
    assert max(one.col for one in found) < 50 + 4
    found, _ = suggest(images, 300, distance_px=4, top_fraction=1)
    number = [sum(one.image == image for one in found) for image in range(3)]
    assert number == [
        pytest.approx(300 * share, abs=25) for share in (100 / 260, 60 / 260, 100 / 260)
    ]
    assert pdist([(one.row, one.col) for one in found if one.image == 1]).min() >= 4


def test_of_too_many_candidates_random_ones_are_kept(tmp_path, monkeypatch):
    image = draw(tmp_path / "a.tif", np.random.default_rng(0).integers(30, 99, (200, 200)))
    every, _ = suggest([image], 40, distance_px=8, top_fraction=0.2)
    monkeypatch.setattr("pointcover.active.select.MOST_CANDIDATES", 1000)
    fewer, _ = suggest([image], 40, distance_px=8, top_fraction=0.2)
    assert len(fewer) == len(every) == 40
    assert fewer != every
    sure = [np.mean([one.uncertainty for one in some]) for some in (every, fewer)]
    assert sure[1] == pytest.approx(sure[0], abs=0.02)


def test_the_top_fraction_is_that_of_each_class_with_by_class():
    uncertainties = np.array([0.1, 0.9, 0.5, 0.7, 0.3, 0.2, 0.8, 0.6], np.float32)
    ids = np.array([0, 0, 0, 0, 1, 1, 2, 2], np.uint8)
    found = Candidates(np.arange(8), np.arange(8), uncertainties, ids, uncertainties)
    drawn = draw_priorities(found, 0.5, np.random.default_rng(0), by_class=True).priorities >= 2
    assert drawn.tolist() == [False, True, False, True, True, False, True, False]
    drawn = draw_priorities(found, 0.3, np.random.default_rng(0), by_class=False).priorities >= 2
    assert np.flatnonzero(drawn).tolist() == [1, 3, 6]
    kept = draw_priorities(found, 0, np.random.default_rng(0), by_class=True)
    assert np.array_equal(kept.priorities, uncertainties)
    first = [
        int(
            draw_priorities(
                found, 0.5, np.random.default_rng(seed), by_class=False
            ).priorities.argmax()
        )
        for seed in range(200)
    ]
    assert {one: first.count(one) > 25 for one in set(first)} == dict.fromkeys([1, 3, 6, 7], True)


def test_an_invalid_top_fraction_is_refused():
    for top_fraction in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="top_fraction"):
            ImageQuerySettings(top_fraction=top_fraction)


@pytest.mark.parametrize("edge_px", [0, 1, 5])
def test_queries_keep_the_edge_distance_from_other_classes(tmp_path, edge_px):
    named = np.zeros((400, 700))  # windows meet within it
    named[150:260, 320:] = 2
    rows, cols = np.mgrid[:400, :700]
    away = np.maximum(  # from the other class: hand-made, for a rectangle in a corner
        np.where(rows < 150, 150 - rows, np.where(rows >= 260, rows - 259, 0)),
        np.where(cols < 320, 320 - cols, 0),
    )
    inside = np.minimum(np.minimum(rows - 149, 260 - rows), cols - 319)
    far = np.where(named == 2, inside, away)
    # The nearer to the edge, the greater the uncertainty.
    image = draw(tmp_path / "a.tif", np.minimum(30 + 5 * far, 99), named)
    found, _ = suggest([image], 20, distance_px=15, edge_px=edge_px)
    assert len(found) == 20
    assert {far[one.row, one.col] for one in found} == {edge_px + 1}


def test_an_edge_distance_without_candidates_is_an_error(tmp_path):
    named = np.indices((64, 64)).sum(axis=0) // 4 % 2
    image = draw(tmp_path / "a.tif", np.full((64, 64), 50), named)
    with pytest.raises(ValueError, match=r"far enough from other classes.*lower edge_px \(9\)"):
        suggest([image], 5, edge_px=9)


def test_nothing_is_suggested_where_there_is_no_data(tmp_path):
    values = np.zeros((3, 100, 100), np.uint8)
    values[1:] = 50
    values[:, :, :60] = 77
    write_raster(tmp_path / "a.tif", values, nodata=77)
    found, _ = suggest([tmp_path / "a.tif"], 100, distance_px=10)
    assert len(found) > 10
    assert min(one.col for one in found) >= 60
    values[:] = 77
    write_raster(tmp_path / "b.tif", values, nodata=77)
    with pytest.raises(ValueError, match="no pixel with data"):
        suggest([tmp_path / "b.tif"], 10)


@pytest.mark.parametrize("top", [0, 5, 16, 23])
def test_candidates_are_the_most_uncertain_pixels_of_squares_for_any_strips(top):
    generator = np.random.default_rng(0)
    uncertainties = generator.integers(0, MOST, (37, 50)).astype(np.uint8)
    classes = generator.integers(0, 4, (37, 50)).astype(np.uint8)
    uncertainties[3, 4] = 255  # no data
    strip = np.stack([classes, uncertainties])
    rows, cols, values, ids = best_of_strip(strip, top, Squares(16, False, generator))
    assert len(set(zip((rows // 16).tolist(), (cols // 16).tolist(), strict=True))) == len(rows)
    seen = np.where(uncertainties == 255, -1, uncertainties.astype(int))
    for row, col, value, class_id in zip(rows - top, cols, values, ids, strict=True):
        square = seen[
            max(0, (row + top) // 16 * 16 - top) : (row + top) // 16 * 16 - top + 16,
            col // 16 * 16 : col // 16 * 16 + 16,
        ]
        assert seen[row, col] == square.max()
        assert int(value * (MOST + 1)) == seen[row, col]
        assert class_id == classes[row, col]


@pytest.mark.parametrize(
    ("size", "left"), [((40, 50), (32, 42)), ((7, 50), (1, 44)), ((1, 1), (1, 1))]
)
def test_queries_keep_a_border_except_in_tiny_images(size, left):
    height, width = size
    strips = np.zeros((2, height, width), np.uint8)
    strips[1] = 7
    cuts = [0, *([5, 36] if height > 36 else []), height]
    parts = [_without_border(strips[:, a:b], a, height) for a, b in pairwise(cuts)]
    kept = np.concatenate(parts, axis=1)[1] == 7
    assert kept.sum() == left[0] * left[1]
    assert np.array_equal(kept, kept[::-1, ::-1])
    assert (strips[1] == 7).all()  # what was given stays


def test_a_distance_larger_than_the_image_gives_one_query(tmp_path):
    image = draw(tmp_path / "a.tif", np.full((150, 300), 50))
    suggest([image], 5)  # what is imported at first use
    tracemalloc.start()
    found, _ = suggest([image], 5, distance_px=15_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 1
    assert peak < 20e6


def test_a_distance_that_is_no_number_of_pixels_is_refused(tmp_path):
    for distance in (math.nan, 0.5):
        with pytest.raises(ValueError, match="distance_px"):
            ImageQuerySettings(distance_px=distance)
    command = ["suggest", "model", "a.tif", "--out", str(tmp_path / "n.gpkg")]
    done = CliRunner().invoke(app, [*command, "--distance-px", "inf"])
    assert done.exit_code == 2
    assert "got inf, wanted a finite number" in done.output
    assert "Traceback" not in done.output


def test_confident_models_disagree_and_uncertain_ones_do_not():
    def says(*fractions):
        return lambda images: torch.log(torch.tensor(fractions)).reshape(1, -1, 1, 1)

    image = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    one, other = says(0.98, 0.02), says(0.02, 0.98)
    fought = score_disagreement([one, other], by_views=False)(image)
    assert fought[0, :2].flatten().tolist() == pytest.approx([0.5, 0.5])
    entropy = -(0.98 * math.log2(0.98) + 0.02 * math.log2(0.02))
    assert fought[0, 2].item() == pytest.approx(1 - entropy, abs=1e-5)
    unsure = score_disagreement([says(0.5, 0.5)] * 2, by_views=False)(image)
    assert unsure[0, 2].item() == pytest.approx(0, abs=1e-6)
    encoded = Uncertainties().encode(fought)
    assert encoded[0, 1].item() == round((1 - entropy) * MOST)


def test_disagreement_of_one_view_of_one_model_is_refused():
    with pytest.raises(ValueError, match="add models with --also"):
        Suggester(
            make_fabric("cpu", "fp32"),
            [doubter()],
            ImageQuerySettings(acquisition="disagreement"),
        )


def test_choose_equals_a_greedy_search_over_a_thousand_candidates():
    generator = np.random.default_rng(4)
    uncertainties = generator.random(1000)
    candidates = Candidates(
        generator.integers(0, 400, 1000),
        generator.integers(0, 400, 1000),
        uncertainties,
        np.zeros(1000, np.uint8),
        uncertainties,
    )
    found = choose([candidates], 40, 25.5, Turns(classes=False))
    # By hand: take the best that is left, as long as it is far from all that were taken
    taken: list[tuple[int, int]] = []
    for best in np.argsort(-uncertainties):
        at = int(candidates.rows[best]), int(candidates.cols[best])
        if all(math.dist(at, other) >= 25.5 for other in taken):
            taken.append(at)
    assert [(one.row, one.col) for one in found] == taken[:40]


@pytest.mark.parametrize("gsd_m", [0.25, 1.0])
def test_queries_keep_their_distance_in_overlapping_images(tmp_path, gsd_m):
    images = [draw(tmp_path / "a.tif", np.full((100, 100), 50))]
    images.append(tmp_path / "b.tif")  # turned by a quarter, on the right half of the other
    b = Affine(0, gsd_m, 500_012.5, gsd_m, 0, 599_970)
    values = np.full((3, 100, 100), 50, np.uint8)
    values[0] = 0
    write_raster(images[1], values, transform=b)
    images.append(draw(tmp_path / "c.tif", np.full((100, 100), 50), place=(500_026, 600_000)))
    images.append(draw(tmp_path / "far.tif", np.full((100, 100), 50), place=(900_000, 600_000)))
    found, orthophotos = suggest(images, 400, distance_px=10)
    at = np.array([orthophotos[o.image].grid.transform @ (o.col + 0.5, o.row + 0.5) for o in found])
    of = np.array([one.image for one in found])
    assert set(of) == {0, 1, 2, 3}
    for one in range(4):
        for other in range(one + 1, 4):
            apart = cdist(at[of == one], at[of == other]).min()
            assert apart >= 10 * (gsd_m if 1 in (one, other) else 0.25) - 1e-6
    for one in range(4):
        assert pdist([(o.row, o.col) for o in found if o.image == one]).min() >= 10
    alone = len(suggest([images[3]], 400, distance_px=10)[0])  # chance is another one there
    assert (of == 3).sum() > 0.9 * alone, "what is far away costs nothing"
    assert (of == 2).sum() < 0.9 * alone


def test_queries_keep_their_distance_from_existing_annotations(tmp_path):
    image = draw(tmp_path / "a.tif", np.full((100, 120), 50))
    shapes = [Point(500_005, 599_990), LineString([(500_020, 599_999), (500_020, 599_980)])]
    ready = geopandas.GeoDataFrame({"class": ["road", "1"]}, geometry=shapes, crs="EPSG:2180")
    empty = geopandas.GeoDataFrame(
        {"class": [""]}, geometry=[Point(500_010, 599_990)], crs="EPSG:2180"
    )
    ready.to_crs(4326).to_file(tmp_path / "clicks.gpkg", layer="ready")
    empty.to_file(tmp_path / "clicks.gpkg", layer="empty")  # nobody could tell
    clicks = read_annotations(tmp_path / "clicks.gpkg", CLASSES, VectorSettings())
    wanted = ImageQuerySettings(distance_px=12, points=500)
    suggester = Suggester(make_fabric("cpu", "fp32"), [doubter()], wanted)
    orthophotos = suggester.prepare([image], tmp_path / "next.gpkg", ReadingSettings())
    plain = suggester.suggest(orthophotos, lambda rows: None)
    found = suggester.suggest(orthophotos, lambda rows: None, clicks)

    def apart(some):
        at = geopandas.GeoSeries(
            [Point(500_000 + (o.col + 0.5) / 4, 600_000 - (o.row + 0.5) / 4) for o in some]
        )
        return [at.distance(shape).min() for shape in (*shapes, empty.geometry[0])]

    assert max(apart(plain)) < 3
    assert min(apart(found)[:2]) >= 3 - 1e-6
    assert apart(found)[2] < 3
    assert 20 < len(found) < len(plain)
    everywhere = geopandas.GeoDataFrame(
        {"class": ["land"]}, geometry=[box(500_000, 599_970, 500_030, 600_000)], crs="EPSG:2180"
    )
    everywhere.to_file(tmp_path / "all.gpkg")
    clicks = read_annotations(tmp_path / "all.gpkg", CLASSES, VectorSettings())
    with pytest.raises(ValueError, match="far enough from the existing annotations"):
        suggester.suggest(orthophotos, lambda rows: None, clicks)


def test_images_of_other_crs_or_without_transform_do_not_overlap():
    grids = [
        RasterInfo(Path("a.tif"), 50, 50, 3, "uint8", crs, Affine.identity(), False)
        for crs in (CRS.from_epsg(2180), CRS.from_epsg(2177), CRS.from_epsg(2180), None, None)
    ]
    found = _find_beside(grids, 10)
    assert [[near.image for near in part] for part in found] == [[2], [], [0], [], []]


@pytest.mark.parametrize("by_class", [False, True])
def test_thinning_keeps_all_candidates_that_are_chosen(by_class):
    generator = np.random.default_rng(5)
    candidates = [
        Candidates(
            generator.integers(0, side, 500),
            generator.integers(0, side, 500),
            generator.random(500),
            generator.integers(0, 3, 500).astype(np.uint8),
            generator.random(500),
        )
        for side in (60, 300, 150)
    ]
    candidates.append(Candidates(*(np.zeros(0, np.uint8) for _ in range(5))))
    for count in (1, 25, 5000):
        left = [thin(found, count, 20, by_class=by_class) for found in candidates]
        assert max(len(found.rows) for found in left) <= min(count, 150)
        chosen = choose(left, count, 20, Turns(classes=by_class))
        assert chosen == choose(candidates, count, 20, Turns(classes=by_class))


def test_squares_find_nearly_all_queries_of_a_greedy_search(tmp_path):
    sure = np.random.default_rng(0).integers(30, 99, (400, 450))
    found, _ = suggest([draw(tmp_path / "a.tif", sure)], 130, distance_px=32)
    assert len(found) >= 115  # of some 133, if each pixel is tried
    assert pdist([(one.row, one.col) for one in found]).min() >= 32


def test_a_filled_file_of_suggestions_is_read_as_annotations(tmp_path):
    images = [
        draw(tmp_path / "a.tif", np.full((100, 100), 50)),
        draw(tmp_path / "b.tif", np.full((100, 100), 50), place=(500_100, 600_000)),
    ]
    found, orthophotos = suggest(images, 6)
    path = tmp_path / "next.gpkg"
    grids = [orthophoto.grid for orthophoto in orthophotos]
    names = ["a", "b"]
    assert write_suggestions(path, found, grids, names, CLASSES) == {"suggestions": 6}
    table = geopandas.read_file(path, layer="suggestions")
    assert set(table["class"]) == {""}
    assert set(table["predicted"]) == {"land"}
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    first = table.geometry[0]
    assert (first.x, first.y) == (
        500_000 + (found[0].col + 0.5) / 4,
        600_000 - (found[0].row + 0.5) / 4,
    )
    table.loc[:3, "class"] = ["water", "road", "land", "water"]
    table.to_file(tmp_path / "answered.gpkg", layer="suggestions")
    read = read_annotations(tmp_path / "answered.gpkg", CLASSES, VectorSettings())
    assert read.class_ids.tolist() == [1, 2, 0, 1]
    assert read.ignored == 2
    assert table["image"].tolist() == [names[one.image] for one in found]


def fill_in(path, answers):
    """Type classes into a written file where it lies, as QGIS does."""
    with closing(sqlite3.connect(path)) as file, file:
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            file.create_function(name, 1, lambda shape: 0)  # triggers of the index name them
        for fid, answer in answers.items():
            file.execute("UPDATE suggestions SET class = ? WHERE fid = ?", [answer, fid])


@pytest.mark.parametrize(
    ("glob", "files", "names"),
    [
        (
            "*/images/*.tif",
            ["Tile 1/images/west.tif", "Tile 2/images/east.tif"],
            ["Tile_1-west", "Tile_2-east"],
        ),
        ("images/tile_*.tif", ["images/tile_01.tif", "images/tile_02.tif"], ["01", "02"]),
    ],
)
def test_suggestions_are_placed_for_any_orthophoto_names(tmp_path, glob, files, names):
    images = [
        draw(tmp_path / file, np.full((100, 100), 50), place=(500_000 + 15 * number, 600_000))
        for number, file in enumerate(files)
    ]  # they overlap by 40 px
    pairs = find_pairs(make_card(images=glob, masks=None, region="file"), tmp_path)
    assert [pair.name for pair in pairs] == names
    found, orthophotos = suggest(images, 12, distance_px=10)
    out = tmp_path / "next.gpkg"
    grids = [orthophoto.grid for orthophoto in orthophotos]
    write_suggestions(out, found, grids, [image.stem for image in images], CLASSES)
    fill_in(out, {fid: CLASSES.names[fid % 4] for fid in range(1, 13)})
    read = read_annotations(out, CLASSES, VectorSettings(), names)
    report = PlacementReport(read)
    masks = [
        place_annotations(read, grid, report, orthophoto=name, all_touched=False).burn(
            Window(0, 0, 100, 100)
        )
        for name, grid in zip(names, grids, strict=True)
    ]
    for fid, one in enumerate(found, 1):
        assert masks[one.image][one.row, one.col] == fid % 4
        # What lies on both images is a click on both.
        beside = one.col - (60 if one.image == 0 else -60)
        if 0 <= beside < 100:
            assert masks[1 - one.image][one.row, beside] == fid % 4
    labelled = [np.count_nonzero(mask != IGNORE_INDEX) for mask in masks]
    shared = [one.col >= 60 if one.image == 0 else one.col < 40 for one in found]
    assert sum(labelled) == len(found) + sum(shared)
    assert any(shared)


def test_the_style_has_a_list_of_classes_and_a_colour_for_none(tmp_path):
    found, orthophotos = suggest([draw(tmp_path / "a.tif", np.full((64, 64), 50))], 1)
    write_suggestions(tmp_path / "n.gpkg", found, [orthophotos[0].grid], ["a"], CLASSES)
    root = ElementTree.parse(tmp_path / "n.qml").getroot()
    offered = root.findall(".//fieldConfiguration/field[@name='class']//Option[@type='QString']")
    assert [option.get("value") for option in offered] == [*CLASSES.names, ""]
    categories = root.findall(".//categories/category")
    assert [category.get("value") for category in categories] == [*CLASSES.names, ""]


def test_the_command_writes_a_file_once(tmp_path):
    save_model(tmp_path / "model")
    image = draw(tmp_path / "a.tif", np.full((128, 160), 50))
    out = tmp_path / "next.gpkg"
    command = ["suggest", str(tmp_path / "model"), str(image), "--points", "3", "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "3 in layer 'suggestions'" in done.output
    assert len(geopandas.read_file(out, layer="suggestions")) == 3
    assert "add --force to replace" in CliRunner().invoke(app, command).output
    more = CliRunner().invoke(app, [*command, "--force", "--points", "5000"])
    assert more.exit_code == 0, more.output
    assert "; fewer than 5000, since they are 32 px from each other" in more.output
    clicks = tmp_path / "clicks.gpkg"
    table = geopandas.read_file(out, layer="suggestions").assign(**{"class": "land"})
    table.iloc[:1].to_file(clicks)
    more = CliRunner().invoke(
        app, [*command, "--force", "--points", "5000", "--clicks", str(clicks)]
    )
    assert more.exit_code == 0, more.output
    assert "32 px from each other and from the existing annotations" in more.output
    kept = geopandas.read_file(out, layer="suggestions")
    assert kept.distance(table.geometry[0]).min() >= 8


def test_the_command_prints_remarks_and_skips_maps(tmp_path):
    save_model(tmp_path / "model")
    image = draw(tmp_path / "a.tif", np.full((128, 160), 50))
    with rasterio.open(image, "r+") as file:
        file.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red]
    map_file = draw(tmp_path / "a_classes.tif", np.full((128, 160), 50))
    with rasterio.open(map_file, "r+") as file:
        file.update_tags(POINTCOVER_IMAGE="a.tif")
    command = ["suggest", str(tmp_path / "model"), str(image), str(map_file), "--points", "3"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "next.gpkg")])
    assert done.exit_code == 0, done.output
    assert "note: " in done.output
    assert "blue, green, red" in done.output
    assert f"{map_file} is a map of pointcover, so it is skipped" in done.output
    assert "3 in layer 'suggestions'" in done.output


@pytest.mark.parametrize("resample", [False, True])
def test_an_image_with_a_crs_but_no_transform_is_refused(tmp_path, resample):
    here, nowhere = draw(tmp_path / "here.tif", np.full((64, 64), 50)), tmp_path / "nowhere.tif"
    write_raster(nowhere, np.full((3, 64, 64), 50, np.uint8), transform=None)
    model = replace(doubter(), checkpoint=identity_model(gsds_m=(0.25,)).checkpoint)
    suggester = Suggester(make_fabric("cpu", "fp32"), [model], ImageQuerySettings())
    reading = ReadingSettings(resample=resample)
    with pytest.raises(
        ValueError, match=r"nowhere\.tif has a CRS, but no transform, .* no coordinates"
    ):
        suggester.prepare([here, nowhere], tmp_path / "next.gpkg", reading)


@pytest.mark.parametrize(
    ("out", "said"), [("next.shp", "does not end in .gpkg"), ("next.gpkg", "no CRS, so points")]
)
def test_invalid_input_is_one_message(tmp_path, out, said):
    save_model(tmp_path / "model")
    image = tmp_path / "a.png"
    write_raster(image, np.full((3, 64, 64), 9, np.uint8), crs=None, transform=None, driver="PNG")
    command = ["suggest", str(tmp_path / "model"), str(image), "--out", str(tmp_path / out)]
    done = CliRunner().invoke(app, [*command, "--gsd-m", "0.25"])
    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output
