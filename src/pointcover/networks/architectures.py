"""Architectures. Each is one function, which imports its library itself, and one line of MODELS."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # settings are validated without torch, which takes seconds to import
    from torch import nn

GRADIENT_DESCENT: Final = "gradient_descent"
"""How a network is fitted: a key of `FITTERS` in `pointcover.training.fitters`."""


PIXEL_CLASSIFIER: Final = "pixel_classifier"
"""The way of fitting a classifier of pixel features: a key of `FITTERS`, too."""


@dataclass(frozen=True)
class Architecture:
    """How a model is built and fitted."""

    build: "Callable[..., nn.Module]"
    """Takes `in_channels`, `classes` and the channels by name, and `encoder` if it has one."""
    channels: Mapping[str, int | tuple[int, ...]]
    """Numbers of channels at width 1, by their parameter of `build`. They are multiples of 4, or of
    128 for group normalisation with 32 groups, so that widths in steps of 0.25 give integers."""
    has_encoder: bool = True
    needs_encoder: bool = True
    """Whether one that has an encoder can do without."""
    needs_vision_transformer: bool = False
    """Whether its encoder is a vision transformer; other networks can have none."""
    examples: tuple[str, ...] = ("resnet18", "resnet34", "mobilenet_v2")
    """Encoders that messages suggest."""
    fitted_by: str = GRADIENT_DESCENT
    """A key of `FITTERS`."""


def unet(encoder: str, **sizes: Any) -> Any:
    """Build U-Net (Ronneberger, Fischer, Brox 2015) on an encoder."""
    import segmentation_models_pytorch as smp

    return smp.Unet(encoder, encoder_weights=None, **sizes)


def unetplusplus(encoder: str, **sizes: Any) -> Any:
    """Build U-Net++ (Zhou, Siddiquee, Tajbakhsh, Liang 2018) on an encoder."""
    import segmentation_models_pytorch as smp

    return smp.UnetPlusPlus(encoder, encoder_weights=None, **sizes)


def fpn(encoder: str, **sizes: Any) -> Any:
    """Build a feature pyramid network (Kirillov, Girshick, He, Dollár 2019) on an encoder."""
    import segmentation_models_pytorch as smp

    return smp.FPN(encoder, encoder_weights=None, **sizes)


def deeplabv3(encoder: str, **sizes: Any) -> Any:
    """Build DeepLabV3 (Chen, Papandreou, Schroff, Adam 2017) on an encoder."""
    import segmentation_models_pytorch as smp

    return smp.DeepLabV3(encoder, encoder_weights=None, **sizes)


def deeplabv3plus(encoder: str, **sizes: Any) -> Any:
    """Build DeepLabV3+ (Chen, Zhu, Papandreou, Schroff, Adam 2018) on an encoder."""
    import segmentation_models_pytorch as smp

    return smp.DeepLabV3Plus(encoder, encoder_weights=None, **sizes)


def segformer(encoder: str, **sizes: Any) -> Any:
    """Build the decoder of SegFormer (Xie et al. 2021) on an encoder."""
    import segmentation_models_pytorch as smp

    return smp.Segformer(encoder, encoder_weights=None, **sizes)


def dpt(encoder: str, **sizes: Any) -> "nn.Module":
    """Build DPT (Ranftl, Bochkovskiy, Koltun 2021) on a vision transformer of timm."""
    from pointcover.networks.dpt import DPT

    return DPT(encoder, **sizes)


def unet_scratch(**sizes: Any) -> "nn.Module":
    """Build U-Net as in its paper, without a separate encoder."""
    from pointcover.networks.scratch import UNet

    return UNet(**sizes)


def unetplusplus_scratch(**sizes: Any) -> "nn.Module":
    """Build U-Net++ as in its paper, without a separate encoder."""
    from pointcover.networks.scratch import UNetPlusPlus

    return UNetPlusPlus(**sizes)


def pixel_classifier(settings: Any) -> "nn.Module":
    """Build a classifier of pixel features from its PixelClassifierSettings."""
    from pointcover.networks.pixel_classifiers.classifier import PixelClassifier

    return PixelClassifier(settings)


_CLASSIFIER: Final = Architecture(
    pixel_classifier, {}, needs_encoder=False, fitted_by=PIXEL_CLASSIFIER
)

MODELS: Final[dict[str, Architecture]] = {
    "unet": Architecture(unet, {"decoder_channels": (256, 128, 64, 32, 16)}),
    "unetplusplus": Architecture(unetplusplus, {"decoder_channels": (256, 128, 64, 32, 16)}),
    "fpn": Architecture(
        fpn, {"decoder_pyramid_channels": 256, "decoder_segmentation_channels": 128}
    ),
    "deeplabv3": Architecture(deeplabv3, {"decoder_channels": 256}),
    "deeplabv3plus": Architecture(deeplabv3plus, {"decoder_channels": 256}),
    "segformer": Architecture(segformer, {"decoder_segmentation_channels": 256}),
    "dpt": Architecture(
        dpt,
        {"decoder_intermediate_channels": (256, 512, 1024, 1024), "decoder_fusion_channels": 256},
        needs_vision_transformer=True,
        examples=("tu-vit_small_patch16_dinov3", "tu-vit_small_patch14_dinov2"),
    ),
    "unet_scratch": Architecture(unet_scratch, {"base_width": 64}, has_encoder=False),
    "unetplusplus_scratch": Architecture(
        unetplusplus_scratch, {"base_width": 32}, has_encoder=False
    ),
    "logistic_regression": _CLASSIFIER,
    "linear_discriminant": _CLASSIFIER,
    "perceptron": _CLASSIFIER,
    "random_forest": _CLASSIFIER,
    "extra_trees": _CLASSIFIER,
    "gradient_boosting": _CLASSIFIER,
    "classifier_mean": _CLASSIFIER,
}
"""All architectures, by their name in `train.model`."""
