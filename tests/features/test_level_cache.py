"""What a cache returns is what the encoder computes, and nothing else is returned for it."""

import os

import pytest
import torch

from pointcover.features import level_cache
from pointcover.features.encoder_pyramid import use_cache
from pointcover.features.level_cache import GB, SUFFIX, LevelCache
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import (
    EncoderBlockSettings,
    PixelFeatureSettings,
)
from tests.features.test_encoder_pyramid import pooling, resnet
from tests.machine import MACHINE

IMAGE = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
ROWS, COLS = torch.tensor([0, 5, 63]), torch.tensor([95, 2, 40])


@pytest.fixture
def cache(tmp_path):
    return LevelCache(tmp_path / "cache", 1)


def files(tmp_path):
    return sorted((tmp_path / "cache").glob(f"*/*{SUFFIX}"))


def compute_nothing(*_):
    raise AssertionError("computed, though it was kept")


@pytest.mark.parametrize("views", [1, 4])
def test_kept_features_are_those_computed(tmp_path, cache, monkeypatch, views):
    plain, kept = resnet(scales=(1, 2), views=views), resnet(scales=(1, 2), views=views)
    use_cache(kept, cache)
    expected = plain(IMAGE)
    assert torch.equal(kept(IMAGE), expected)
    assert len(files(tmp_path)) == 2  # a file for each scale
    monkeypatch.setattr(kept, "_compute", compute_nothing)
    assert torch.equal(kept(IMAGE), expected)
    assert torch.equal(kept.at(IMAGE[0], ROWS, COLS), plain.at(IMAGE[0], ROWS, COLS))
    for one, other in zip(kept.encode(IMAGE), plain.encode(IMAGE), strict=True):
        assert torch.equal(one.values, other.values)


def test_another_image_encoder_or_number_of_views_is_computed(tmp_path, cache):
    first = pooling(scales=(1,))
    use_cache(first, cache)
    image = IMAGE[:, :2]
    first(image)
    others = [
        pooling(scales=(2,)),
        pooling(scales=(1,), views=2),
        pooling(scales=(1,), levels=(1,)),
    ]
    for number, other in enumerate(others, start=2):
        use_cache(other, cache)
        expected = type(other)(other.encoder, (0.5, 0.5), (0.25, 0.25), other.settings)(image)
        assert torch.equal(other(image), expected)
        assert len(files(tmp_path)) == number
    first(image + 0.001)
    first(image[:, :, :32])
    assert len(files(tmp_path)) == 6


def test_weights_loaded_later_count(tmp_path, cache):
    pyramid, other = resnet(), resnet()
    use_cache(pyramid, cache)
    before = pyramid(IMAGE)
    state = {
        name: value * 1.5 if value.is_floating_point() else value
        for name, value in other.state_dict().items()
    }
    pyramid.load_state_dict(state)
    other.load_state_dict(state)
    assert not torch.equal(pyramid(IMAGE), before)
    assert torch.equal(pyramid(IMAGE), other(IMAGE))


def test_vision_transformers_differ_by_their_blocks(cache):
    name = "vit_tiny_patch16_224"
    found = []
    for blocks in ((1, 12), (5, 12)):
        encoder = EncoderBlockSettings(name=name, blocks=blocks)
        features = PixelFeatures(PixelFeatureSettings(filter_bank=None, encoder=encoder), 3).eval()
        use_cache(features, cache)
        found.append(features.at(IMAGE[0] * 255, ROWS, COLS)["encoder"])
    assert not torch.equal(*found)


def test_files_unused_for_longest_are_removed(tmp_path):
    cache = LevelCache(tmp_path / "cache", 3600 / GB)
    tensor = torch.zeros(250)  # 1000 bytes
    for number, key in enumerate(("aa", "bb", "cc")):
        cache.get(key, lambda: [tensor])
        os.utime(files(tmp_path)[-1], (number, number))
    cache.get("aa", compute_nothing)  # used now
    cache.get("dd", lambda: [tensor])
    assert [path.stem for path in files(tmp_path)] == ["aa", "cc", "dd"]
    cache.get("ee", lambda: [torch.zeros(2000)])  # larger than all that may be kept
    assert [path.stem for path in files(tmp_path)] == ["aa", "cc", "dd"]


def test_a_damaged_file_is_written_again(tmp_path, cache):
    cache.get("aa", lambda: [torch.ones(9)])
    path = files(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:40])
    assert torch.equal(cache.get("aa", lambda: [torch.ones(9)])[0], torch.ones(9))
    assert torch.equal(cache.get("aa", compute_nothing)[0], torch.ones(9))


def test_a_full_disk_is_said_once_and_everything_is_computed(cache, monkeypatch, caplog):
    def fill(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(level_cache.safetensors.torch, "save_file", fill)
    for _ in range(2):
        assert torch.equal(cache.get("aa", lambda: [torch.ones(9)])[0], torch.ones(9))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "(No space left on device). Free some space, or choose another" in caplog.text


def test_is_made_of_the_settings_of_a_machine(tmp_path):
    assert LevelCache.of(MACHINE) is None
    chosen = MACHINE.model_copy(update={"feature_cache": str(tmp_path)})
    assert LevelCache.of(chosen) is not None
    with pytest.raises(ValueError, match="wanted null or an absolute path"):
        type(MACHINE)(**MACHINE.model_dump() | {"feature_cache": "cache"})
