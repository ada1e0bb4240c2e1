"""What is read of images for the map of a view."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pointcover.labelling.export_maps import _describe
from pointcover.labelling.map_maker import MapMaker
from pointcover.labelling.session import Session
from pointcover.labelling.view import View, Wanted
from pointcover.raster import overviews
from pointcover.raster.overviews import LevelReader
from tests.labelling.scenes import POINTS, open_scene, wait_for

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
