"""Models that name what they see, and images to map, for tests of mapping."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from pointcover.labels import ClassTable
from pointcover.maps.mapper import Mapper
from pointcover.maps.settings import MapSettings, ReadingSettings
from pointcover.models.load import NamedModel
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.checkpoint import save_checkpoint
from pointcover.networks.description import Checkpoint
from pointcover.networks.segmenter import Segmenter
from pointcover.runtime.devices import make_fabric
from pointcover.tileset.tiles import TileSet
from tests.train_settings import network_settings

CLASSES = ClassTable(
    ("land", "water", "road", "wood & heath"),
    ((132, 41, 246), (226, 169, 41), (60, 16, 152), (10, 120, 30)),
)
TILE_SET = TileSet(CLASSES, 64, (0.25,), (0.0,) * 3, (1.0,) * 3, (0.0, 255.0), (1, 2, 3))


class Identity(nn.Module):
    """Is nearly sure of the class that the first band names."""

    def forward(self, values):
        return 5 * nn.functional.one_hot(values[:, 0].long(), len(CLASSES)).movedim(-1, 1).float()


def identity_model(sha256="0" * 64, gsds_m=(), label_fractions=None):
    """Return a model that returns its input, as if it had been read from disk."""
    segmenter = Segmenter(Identity(), (0.0,) * 3, (1.0,) * 3)
    tile_set = replace(TILE_SET, gsds_m=gsds_m)
    checkpoint = Checkpoint(network_settings("identity", "none"), tile_set, {}, label_fractions)
    return NamedModel("identity", segmenter, checkpoint, sha256)


def make_mapper(models=None, reading=None, **settings):
    return Mapper(
        make_fabric("cpu", "fp32"),
        models or [identity_model()],
        MapSettings(**({"window_px": 64} | settings)),
        reading or ReadingSettings(),
    )


def make_map(image: Path, out: Path, *, force=False, **settings):
    """Map one image; give its areas."""
    mapper = make_mapper(**settings)
    (task,) = mapper.prepare([image], out, replace=force)
    return mapper.make(task, lambda megapixels, was_done: None).areas


@cache
def _draw_weights(bands: int, classes: int, seed: int) -> dict[str, torch.Tensor]:
    statistics = BandStatistics((100.0,) * bands, (50.0,) * bands)
    network = build_model(network_settings(width=0.25), statistics, classes, seed=seed)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    for name, value in weights.items():  # statistics of batches that there never were
        if name.endswith("running_var"):
            value += torch.rand(value.shape, generator=torch.Generator().manual_seed(seed))
    return weights


def save_model(folder: Path, seed=0, tile_set=TILE_SET, label_fractions=None) -> str:
    """Save a small network with random weights; give their SHA-256."""
    weights = _draw_weights(len(tile_set.mean), len(tile_set.classes), seed)
    checkpoint = Checkpoint(
        network_settings(width=0.25), tile_set, {"kept_epoch": 1}, label_fractions
    )
    return save_checkpoint(folder, checkpoint, weights)
