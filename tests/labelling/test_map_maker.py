"""What is read of images for the map of a view."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pointcover.labelling.blocks import COARSE as STEP
from pointcover.labelling.blocks import read_features
from pointcover.labelling.export_maps import _describe, map_images, save_model
from pointcover.labelling.map_maker import MapMaker
from pointcover.labelling.session import Session
from pointcover.labelling.view import Extent, View, Wanted
from pointcover.labels import ClassTable, parse_colour
from pointcover.networks.checkpoint import load_checkpoint
from pointcover.raster import overviews
from pointcover.raster.overviews import LevelReader
from pointcover.raster.raster_io import RasterReader, Window
from tests.labelling.scenes import CLASSES, POINTS, open_scene
from tests.processes import wait_for

COARSE = View(0, 2, 0, 0, 48, 48)


class Page:
    """Keeps the maps."""

    def __init__(self):
        self.maps = []

    def is_old(self, wanted):
        return False

    def rests(self, wanted):
        return False

    def take_map(self, made):
        self.maps.append(made)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of an image that needs overviews."""
    monkeypatch.setattr(overviews, "DIRECT_PX", 100)
    monkeypatch.setattr(overviews, "LEAST_PX", 32)
    project = open_scene(tmp_path, images=1)
    yield project
    project.close()


@pytest.fixture
def reader(project, tmp_path, monkeypatch):
    """The image; the levels that are read are in `read_levels`."""
    path = Path(project.description.images[0].path)
    reader = LevelReader(path, (1, 2, 3), tmp_path / "cache")
    reader.read_levels = []
    read = reader.read

    def noted(level, *window):
        reader.read_levels.append(level)
        return read(level, *window)

    monkeypatch.setattr(reader, "read", noted)
    return reader


def label(project, points):
    for x, y, name in points:
        project.history.add("a.tif", x, y, name)


def test_nothing_is_read_before_two_classes_have_points(project, reader):
    label(project, POINTS[:4])
    page = Page()
    with ThreadPoolExecutor(1) as pool:
        maker = MapMaker(project, [reader], pool, page)
        maker.make(Wanted(View(0, 0, 0, 0, 192, 192), 0, time.monotonic()))
    assert page.maps == [None]
    assert reader.read_levels == []


def test_a_coarse_view_is_read_once_its_overviews_are_written(project, reader):
    label(project, POINTS)
    page = Page()
    wanted = Wanted(COARSE, 0, time.monotonic())
    with ThreadPoolExecutor(1) as pool:
        maker = MapMaker(project, [reader], pool, page)
        maker.make(wanted)
        assert (page.maps, reader.read_levels) == ([], [])
        reader.write_overviews()
        maker.make(wanted)
    assert page.maps[-1].class_ids.shape == (48, 48)


def test_the_map_of_a_coarse_view_follows_its_overviews(project):
    label(project, POINTS)
    session = Session(project, threads=1)
    session.live.start()
    session.show(COARSE)
    wait_for(lambda: session.live._maker and not session.live.is_busy)
    assert session.live.view_map is None
    session._writer.start()
    assert wait_for(lambda: session.live.view_map).level == 2
    session._ends = True
    session._wants_overviews.set()
    session.live.stop()


def test_the_description_of_a_model_reads_overviews(reader):
    tile_set = _describe([reader], None)
    assert reader.is_ready
    assert len(tile_set.mean) == 3


def fitted(project, reader):
    """Return the map of the whole image at full resolution, and the page's classifier."""
    page = Page()
    with ThreadPoolExecutor(1) as pool:
        maker = MapMaker(project, [reader], pool, page)
        maker.make(Wanted(View(0, 0, 0, 0, 192, 192), 0, time.monotonic()))
    return page.maps[-1], maker._fitted[1], maker._features


def test_the_first_map_is_every_second_pixel_of_the_last_and_leaves_no_trace_in_it(project, reader):
    label(project, POINTS)
    _, classifier, features = fitted(project, reader)
    block = read_features(reader, features, 0, Extent(64, 64, 128, 128))
    fine = classifier.score_block(block, 1)
    assert torch.equal(classifier.score_block(block, STEP), fine[:, :, ::STEP, ::STEP])
    block._coarse.clear()
    assert torch.equal(classifier.score_block(block, 1), fine)


@pytest.mark.slow
def test_the_exported_classifier_is_that_of_the_page(project, reader, tmp_path):
    """Its heads have the same bits; maps differ where half precision decides."""
    label(project, POINTS)
    shown, classifier, _ = fitted(project, reader)
    colours = tuple(parse_colour(one.colour) for one in CLASSES)
    table = ClassTable(tuple(one.name for one in CLASSES), colours)
    folder = save_model(project, [reader], table, tmp_path / "model")
    weights = load_checkpoint(folder)[0].state_dict()
    for number, (_, state) in enumerate(classifier.fitted):
        assert state
        for name, values in state.items():
            (kept,) = [
                found for key, found in weights.items() if key.endswith(f"heads.{number}.{name}")
            ]
            assert torch.equal(kept, values), name
    (path,) = map_images(folder, [reader.info.path], tmp_path / "maps", lambda part, text: None)
    exported = RasterReader(path).read(Window(0, 0, 192, 192))[0]
    assert np.mean(exported == shown.class_ids) > 0.99
