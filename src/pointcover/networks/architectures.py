"""Architectures: one function and one line of MODELS each. Libraries load when one is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # settings are validated without torch, which takes seconds to import
    from torch import nn

GRADIENT_DESCENT: Final = "gradient_descent"
"""The way of fitting a network: a key of `FITTERS` in `pointcover.training.fitters`."""


@dataclass(frozen=True)
class Architecture:
    """How a model is built, what it needs, and how it is fitted."""

    build: "Callable[..., nn.Module]"
    """Takes `in_channels`, `classes` and the channels by name, and `encoder` where it has one."""
    channels: Mapping[str, int | tuple[int, ...]]
    """Numbers of channels at width 1, by the name that `build` has for them. Multiples of 4, or of
    128 where group normalisation has 32 groups, so that each width in steps of 0.25 is whole."""
    has_encoder: bool = True
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


def unet_scratch(**sizes: Any) -> "nn.Module":
    """Build U-Net as in its paper, without an encoder made elsewhere."""
    from pointcover.networks.scratch import UNet

    return UNet(**sizes)


def unetplusplus_scratch(**sizes: Any) -> "nn.Module":
    """Build U-Net++ as in its paper, without an encoder made elsewhere."""
    from pointcover.networks.scratch import UNetPlusPlus

    return UNetPlusPlus(**sizes)


MODELS: Final[dict[str, Architecture]] = {
    "unet": Architecture(unet, {"decoder_channels": (256, 128, 64, 32, 16)}),
    "unetplusplus": Architecture(unetplusplus, {"decoder_channels": (256, 128, 64, 32, 16)}),
    "fpn": Architecture(
        fpn, {"decoder_pyramid_channels": 256, "decoder_segmentation_channels": 128}
    ),
    "deeplabv3": Architecture(deeplabv3, {"decoder_channels": 256}),
    "deeplabv3plus": Architecture(deeplabv3plus, {"decoder_channels": 256}),
    "segformer": Architecture(segformer, {"decoder_segmentation_channels": 256}),
    "unet_scratch": Architecture(unet_scratch, {"base_width": 64}, has_encoder=False),
    "unetplusplus_scratch": Architecture(
        unetplusplus_scratch, {"base_width": 32}, has_encoder=False
    ),
}
"""All architectures. An entry is all that `train.model` needs to accept a further one."""
