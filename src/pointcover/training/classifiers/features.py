"""The pixel features that classifiers need, with the weights of their encoder."""

from collections.abc import Sequence
from pathlib import Path

import timm

from pointcover.features.encoder_pyramid import IMAGENET_MEAN, IMAGENET_STD
from pointcover.features.settings import (
    EncoderFeatureSettings,
    FilterBankSettings,
    LocalStatisticsSettings,
)
from pointcover.networks.pixel_classifiers.encoder_weights import (
    find_packaged_weights,
    load_encoder,
)
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import (
    EncoderBlockSettings,
    PixelFeatureSettings,
)
from pointcover.networks.weights import fetch_timm_features
from pointcover.training.classifiers.fit import ClassifierFit
from pointcover.training.settings import TrainSettings


def make_features(settings: TrainSettings, fit: ClassifierFit, bands: int) -> PixelFeatures:
    """Build the blocks of features that the heads use, and load the encoder's weights.

    Args:
        settings: encoder, its weights, and the classifiers'.
        fit: the heads.
        bands: of the images.

    Raises:
        ValueError: the encoder is unknown, or its weights are of another one.
        ConnectionError: `imagenet` weights cannot be fetched.
        FileNotFoundError: there is no such file of weights.
    """
    used = {block for name in fit.heads for block in getattr(fit.settings, name).inputs}
    has_encoder = "encoder" in used and settings.encoder != "none"
    features = PixelFeatures(
        PixelFeatureSettings(
            filter_bank=FilterBankSettings() if "filter_bank" in used else None,
            local_statistics=LocalStatisticsSettings() if "local_statistics" in used else None,
            encoder=_encoder_block(settings, bands) if has_encoder else None,
        ),
        bands,
    )
    if has_encoder:
        _load(features, settings.encoder.removeprefix("tu-"), settings.weights)
    return features


def _encoder_block(settings: TrainSettings, bands: int) -> EncoderBlockSettings:
    name = settings.encoder.removeprefix("tu-")
    if not settings.encoder.startswith("tu-") or not timm.is_model(name.partition(".")[0]):
        raise ValueError(
            f"train.encoder: got {settings.encoder!r}, wanted tu- and a name of timm for model "
            f"{settings.model!r}: try tu-tf_efficientnet_lite0, or none for filters alone"
        )
    published = timm.get_pretrained_cfg(name)
    return EncoderBlockSettings(
        name=name,
        bands=(1, 2, 3) if bands >= 3 else (1, 1, 1),
        mean=_three(published.mean) if published else IMAGENET_MEAN,
        std=_three(published.std) if published else IMAGENET_STD,
        features=EncoderFeatureSettings(scales=settings.classifier.scales),
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


def _load(features: PixelFeatures, name: str, weights: str) -> None:
    if weights != "imagenet":
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"train.weights: {path} does not exist, wanted `imagenet` or a weights file"
            )
        load_encoder(features, path)
    elif packaged := find_packaged_weights(name):
        load_encoder(features, packaged)
    else:
        assert features.encoder is not None
        state = fetch_timm_features(name)
        features.encoder.encoder.load_state_dict(state, strict=True)
