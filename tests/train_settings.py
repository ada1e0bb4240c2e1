"""Settings of networks and of training, for tests."""

from functools import cache

from pointcover.networks.architectures import GRADIENT_DESCENT, MODELS
from pointcover.networks.settings import NetworkSettings
from pointcover.training.settings import TrainSettings
from pointcover.yaml_files import read_yaml
from tests.imagery import NETWORK, ROOT, change

NETWORKS = [name for name, one in MODELS.items() if one.fitted_by == GRADIENT_DESCENT]
"""Architectures that have first weights and are fitted by gradient descent."""


def small_encoder(model: str) -> str:
    """Return a small encoder that fits an architecture; none where it has none."""
    if not MODELS[model].has_encoder:
        return "none"
    return "tu-test_vit" if MODELS[model].needs_vision_transformer else "mobilenet_v2"


def network_settings(
    model: str = "unet", encoder: str = "mobilenet_v2", width: float = 1.0
) -> NetworkSettings:
    """Return a network's settings, unchecked: `model` may be a network of a test's own."""
    return NetworkSettings.model_construct(model=model, encoder=encoder, width=width)


@cache
def project_settings() -> TrainSettings:
    """Return the section `train` of the project's params.yaml, with a network."""
    return TrainSettings(**change(read_yaml(ROOT / "params.yaml"), NETWORK)["train"])


def train_settings(**changes: object) -> TrainSettings:
    """Return the project's settings with changes, unchecked; sections are changed by mappings."""
    settings = project_settings()
    for key, value in changes.items():
        if isinstance(value, dict) and key in ("consistency", "crf", "self_training"):
            value = getattr(settings, key).model_copy(update=value)
        settings = settings.model_copy(update={key: value})
    return settings
