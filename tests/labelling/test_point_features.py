"""Features of points are kept as long as the image and the encoder are the same."""

import numpy as np
import pytest
import torch

from pointcover.features.settings import LocalStatisticsSettings
from pointcover.labelling import point_features
from pointcover.labelling.blocks import read_features
from pointcover.labelling.point_features import OFFSETS_PX, Place, PointFeatures
from pointcover.labelling.view import BlockKey, Extent
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import PixelFeatureSettings
from pointcover.raster.overviews import LevelReader
from tests.labelling.scenes import write_scene

PLACE = Place(0, 0, 40, 50)


def make_features():
    statistics = LocalStatisticsSettings()
    return PixelFeatures(PixelFeatureSettings(local_statistics=statistics), 3).eval()


@pytest.fixture
def kept(tmp_path):
    """The path of an image with a point whose features are on the disk."""
    path = write_scene(tmp_path / "a.tif")
    known = open_features(path)
    known.get(PLACE)
    known.save()
    assert open_features(path).has(PLACE)
    return path


def open_features(path, features=None, bands=(1, 2, 3), value_range=(0, 255)):
    reader = LevelReader(path, bands, path.parent / "cache", value_range)
    return PointFeatures(path.parent / "cache", features or make_features(), [reader])


def test_features_of_a_changed_image_are_computed_anew(kept):
    write_scene(kept, seed=1)
    again = open_features(kept)
    assert not again.has(PLACE)


@pytest.mark.parametrize("options", [{"bands": (3, 2, 1)}, {"value_range": (0, 100)}])
def test_features_of_other_bands_or_another_range_are_computed_anew(kept, options):
    assert not open_features(kept, **options).has(PLACE)


def test_features_of_other_weights_are_computed_anew(kept):
    features = make_features()
    features.register_buffer("weight", torch.ones(3))
    known = open_features(kept, features)
    assert not known.has(PLACE)
    known.get(PLACE)
    known.save()
    assert open_features(kept, features).has(PLACE)
    features.weight[1] = 2
    assert not open_features(kept, features).has(PLACE)


@pytest.mark.parametrize(
    ("name", "value"),
    [("RULE", 0), ("OFFSETS_PX", ((0, 0), (-9, 6), (8, 10))), ("CELL_PX", 64)],
)
def test_features_by_another_rule_are_computed_anew(kept, monkeypatch, name, value):
    monkeypatch.setattr(point_features, name, value)
    assert not open_features(kept).has(PLACE)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.98])
def test_features_in_a_file_that_was_cut_short_are_computed_anew(kept, part):
    (path,) = (kept.parent / "cache").glob("points_*.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    again = open_features(kept)
    assert not again.has(PLACE)
    values = again.get(PLACE)["local_statistics"]
    again.save()
    found = open_features(kept).get(PLACE)["local_statistics"]
    np.testing.assert_allclose(found, values, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("row", "col"), [(40, 50), (63, 64), (0, 127), (99, 99), (96, 31)])
def test_a_point_has_the_same_features_from_its_own_window_and_from_a_block(tmp_path, row, col):
    path = write_scene(tmp_path / "a.tif", 100)
    place = Place(0, 0, row, min(col, 99))
    own, of_block = open_features(path), open_features(path)
    own.compute([place])
    top, left = place.row // 64 * 64, place.col // 64 * 64
    extent = Extent(top, left, min(64, 100 - top), min(64, 100 - left))
    reader = LevelReader(path, (1, 2, 3), tmp_path / "cache")
    block = read_features(reader, make_features(), 0, extent)
    of_block.take_from(block, BlockKey(0, 0, top // 64, left // 64), [place], 64)
    found, wanted = (each.get(place)["local_statistics"] for each in (own, of_block))
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(found, axis=0)) == len(OFFSETS_PX)
