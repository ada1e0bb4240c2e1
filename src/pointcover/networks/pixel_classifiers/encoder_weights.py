"""Frozen encoders of timm: what they expect of images, and their ImageNet weights."""

from collections.abc import Sequence

import timm

from pointcover.features.encoder_pyramid import IMAGENET_MEAN, IMAGENET_STD
from pointcover.features.settings import EncoderFeatureSettings, EncoderViews
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import EncoderBlockSettings
from pointcover.networks.vision_transformer import is_vision_transformer
from pointcover.networks.weights import load_encoder_weights


def describe_encoder(
    encoder: str,
    bands: int,
    scales: tuple[float, ...],
    blocks: tuple[int, ...] | None = None,
    views: EncoderViews = 1,
) -> EncoderBlockSettings | None:
    """Describe the features of a frozen encoder; None where timm has none of this name.

    Args:
        encoder: tu- and a name of timm.
        bands: of the images; of fewer than three the first is taken three times.
        scales: of the image.
        blocks: of a vision transformer, from 1; None for four, evenly spaced.
        views: of the image whose levels are averaged.

    Raises:
        ValueError: blocks are chosen of an encoder that is no vision transformer.
    """
    name = encoder.removeprefix("tu-")
    if name == encoder or not timm.is_model(name.partition(".")[0]):
        return None
    if blocks and not is_vision_transformer(name):
        raise ValueError(
            f"train.classifier.blocks: got {list(blocks)}, wanted null, since {encoder!r} is no "
            f"vision transformer: set it to null, or train.encoder to tu-vit_small_patch16_dinov3"
        )
    published = timm.get_pretrained_cfg(name)
    return EncoderBlockSettings(
        name=name,
        blocks=blocks,
        bands=(1, 2, 3) if bands >= 3 else (1, 1, 1),
        mean=_three(published.mean) if published else IMAGENET_MEAN,
        std=_three(published.std) if published else IMAGENET_STD,
        features=EncoderFeatureSettings(scales=scales, views=views),
    )


def load_encoder(features: PixelFeatures, weights: str) -> None:
    """Load the weights of the encoder.

    Args:
        features: with an encoder.
        weights: `imagenet`, or the path of a file, as for networks.

    Raises:
        ConnectionError: `imagenet` weights cannot be fetched.
        FileNotFoundError: there is no such file.
        ValueError: the file holds more than tensors, or weights of another encoder.
    """
    if features.encoder is None or features.settings.encoder is None:
        raise ValueError(f"got {weights}, wanted no weights: these features have no encoder")
    encoder, name = features.encoder.encoder, features.settings.encoder.name
    load_encoder_weights(encoder, f"tu-{name}", weights)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third
