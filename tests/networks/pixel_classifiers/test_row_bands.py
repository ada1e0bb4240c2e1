"""Windows are scored in little memory beyond the model."""

import subprocess
import sys

import pytest

from tests.imagery import ROOT

BOUND_MB = 1000

SCRIPT = """
import re
from pathlib import Path

import torch

from pointcover.features.settings import EncoderFeatureSettings, FilterBankSettings
from pointcover.features.settings import LocalStatisticsSettings
from pointcover.networks.pixel_classifiers.settings import EncoderBlockSettings
from pointcover.networks.segmenter import PixelSegmenter
from tests import classifiers
from tests.map_models import TILE_SET


def megabytes(key):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\\s+(\\d+) kB", status)[1]) / 1000


torch.set_num_threads(1)
classifiers.FILTERS = FilterBankSettings()
classifiers.STATISTICS = LocalStatisticsSettings()
encoder = EncoderBlockSettings(features=EncoderFeatureSettings(scales=(2, 4), views=2))
classifier = classifiers.fit(
    "linear_discriminant",
    "random_forest",
    "extra_trees",
    encoder=encoder,
    **{
        "linear_discriminant.inputs": ("filter_bank", "encoder"),
        "random_forest.inputs": ("filter_bank", "encoder"),
        "extra_trees.inputs": ("filter_bank", "local_statistics", "encoder"),
    },
)
segmenter = PixelSegmenter(classifier, TILE_SET.mean, TILE_SET.std).eval()
image = torch.randint(0, 256, (1, 3, 896, 896), dtype=torch.uint8)
with torch.inference_mode():
    segmenter(image[:, :, :64, :64])
    before = megabytes("VmRSS")
    kept = slice(144, 896 - 144)
    logits = segmenter(image, [(kept, slice(128, 896 - 128))])
assert logits.shape == (1, 4, 896, 896)
print(megabytes("VmHWM") - before)
"""
"""The recipe `best` with few trees and two views, on a window of `predict` of which the middle is
kept. More views take no more memory."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is read as on Linux")
def test_a_window_of_the_recipe_best_needs_less_than_a_gigabyte_beyond_the_model():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 100 < float(done.stdout) < BOUND_MB
