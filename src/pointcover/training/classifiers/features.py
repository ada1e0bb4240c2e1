"""The pixel features that classifiers need, with the weights of their encoder."""

from pointcover.features.settings import FilterBankSettings, LocalStatisticsSettings
from pointcover.networks.pixel_classifiers.encoder_weights import (
    describe_encoder,
    load_encoder,
)
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import (
    EncoderBlockSettings,
    PixelFeatureSettings,
)
from pointcover.training.classifiers.fit import ClassifierFit
from pointcover.training.settings import TrainSettings


def make_features(settings: TrainSettings, fit: ClassifierFit, bands: int) -> PixelFeatures:
    """Build the blocks of features that the heads use, and load the encoder's weights.

    Args:
        settings: encoder, its weights, and the classifiers'.
        fit: the heads.
        bands: of the images.

    Raises:
        ValueError: the encoder is unknown, its weights are of another one, or a head has no
            features.
        ConnectionError: `imagenet` weights cannot be fetched.
        FileNotFoundError: there is no such file of weights.
    """
    inputs = {name: getattr(fit.settings, name).inputs for name in fit.heads}
    used = {block for blocks in inputs.values() for block in blocks}
    has_encoder = "encoder" in used and settings.encoder != "none"
    for name, blocks in inputs.items():
        if set(blocks) == {"encoder"} and not has_encoder:
            raise ValueError(
                f"train.classifier.{name}.inputs: got encoder alone, and train.encoder is 'none': "
                f"add filter_bank, or choose an encoder such as tu-tf_efficientnet_lite0"
            )
    features = PixelFeatures(
        PixelFeatureSettings(
            filter_bank=FilterBankSettings() if "filter_bank" in used else None,
            local_statistics=LocalStatisticsSettings() if "local_statistics" in used else None,
            encoder=_encoder_block(settings, bands) if has_encoder else None,
        ),
        bands,
    )
    if has_encoder:
        load_encoder(features, settings.initial_weights)
    return features


def _encoder_block(settings: TrainSettings, bands: int) -> EncoderBlockSettings:
    chosen = settings.classifier
    block = describe_encoder(
        settings.encoder, bands, chosen.scales, chosen.blocks, chosen.encoder_views
    )
    if block is None:
        raise ValueError(
            f"train.encoder: got {settings.encoder!r}, wanted tu- and a name of timm for model "
            f"{settings.model!r}: try tu-tf_efficientnet_lite0, or none for filters alone"
        )
    return block
