"""Networks: from a name to a segmenter that takes raw tiles. The one door to smp."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import segmentation_models_pytorch as smp
import timm
import torch
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined, unused-ignore]
from torch import Tensor, nn

from pointcover.networks.scratch import UNet, UNetPlusPlus
from pointcover.networks.weights import load_encoder_weights

STRIDE_PX: Final = 32
"""Height and width of images are multiples of this: how far the deepest features are reduced."""

FEW_BANDS: Final = 16
"""A convolution of more channels is none of an image's bands."""

TRIAL_PX: Final = 64
"""Height and width of the empty image that tells whether an encoder fits a model."""


@dataclass(frozen=True)
class Architecture:
    """A kind of network, and which of its settings the width scales."""

    network: Callable[..., nn.Module]
    channels: Mapping[str, int | tuple[int, ...]]
    """Numbers of channels at width 1, by the name that `network` has for them. Multiples of 4, or
    of 128 where groups of 32 are normalised, so that a width in quarters leaves them whole."""
    has_encoder: bool = True


MODELS: Final[dict[str, Architecture]] = {
    "unet": Architecture(smp.Unet, {"decoder_channels": (256, 128, 64, 32, 16)}),
    "unetplusplus": Architecture(smp.UnetPlusPlus, {"decoder_channels": (256, 128, 64, 32, 16)}),
    "fpn": Architecture(
        smp.FPN, {"decoder_pyramid_channels": 256, "decoder_segmentation_channels": 128}
    ),
    "deeplabv3": Architecture(smp.DeepLabV3, {"decoder_channels": 256}),
    "deeplabv3plus": Architecture(smp.DeepLabV3Plus, {"decoder_channels": 256}),
    "segformer": Architecture(smp.Segformer, {"decoder_segmentation_channels": 256}),
    "unet_scratch": Architecture(UNet, {"base_width": 64}, has_encoder=False),
    "unetplusplus_scratch": Architecture(UNetPlusPlus, {"base_width": 32}, has_encoder=False),
}


class Segmenter(nn.Module):
    """A network together with the statistics that its input is normalised by.

    They are buffers, so they travel with the weights: another normalisation than in training
    makes a dark tile another class.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a network; mean and std are by band, in units of the tiles (0 to 255)."""
        super().__init__()
        self.network = network
        self.layout = _layout_of(network)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Score images: (B, bands, H, W) uint8 → logits (B, C, H, W).

        Raises:
            ValueError: H or W is no multiple of 32, the bands are not as many as in the
                statistics, or one image alone is to be learnt from.
        """
        self._check(images)
        normalised = (images.float() - self.mean) / self.std
        logits: Tensor = self.network(normalised.contiguous(memory_format=self.layout))
        return logits

    def _check(self, images: Tensor) -> None:
        batch, bands, height, width = images.shape
        if bands != self.mean.numel():
            raise ValueError(
                f"got images of {bands} band(s), but the model is of {self.mean.numel()}: give it "
                f"the bands that it was trained with"
            )
        if height % STRIDE_PX or width % STRIDE_PX:
            raise ValueError(
                f"got images of {height} × {width} px, wanted multiples of {STRIDE_PX}: read them "
                f"with their surroundings, or pad them"
            )
        if self.training and batch < 2:
            raise ValueError(
                "got a batch of one image to learn from, wanted two or more for batch "
                "normalisation: raise train.batch_size"
            )


def _layout_of(network: nn.Module) -> torch.memory_format:
    """Return how images and weights lie in memory: by pixel, which is faster, where that is safe.

    torch 2.15 writes beyond its memory (on a CPU, and the process aborts) in the backward pass of a
    first convolution of one pixel that leaves pixels out, as MobileOne, RepVGG and FastViT have.
    """
    risky = any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels <= FEW_BANDS
        for layer in network.modules()
    )
    return torch.contiguous_format if risky else torch.channels_last


def build_model(
    model: str,
    encoder: str,
    *,
    weights: str,
    bands: int,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    width: float = 1.0,
) -> Segmenter:
    """Build a segmenter; the same seed gives the same first weights.

    Args:
        model: a key of MODELS.
        encoder: a name that segmentation-models-pytorch knows, or `tu-` and one that timm knows;
            `none` for models from scratch.
        weights: `imagenet`, `none`, or the path of a file with the encoder's weights; made for
            three bands, they are adapted to others.
        bands: bands of the images.
        classes: number of classes.
        mean: mean by band.
        std: standard deviation by band.
        seed: draws the first weights.
        width: share of the usual channels, in quarters: of the decoder, or of all of a model from
            scratch.

    Raises:
        ValueError: a name is unknown, values do not go together, or the weights do not fit; the
            message names what does.
        ConnectionError: `imagenet` weights cannot be fetched.
    """
    if model not in MODELS:
        near = difflib.get_close_matches(model, MODELS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"train.model: got {model!r}, wanted one of {', '.join(MODELS)}{hint}")
    architecture = MODELS[model]
    _check_encoder(model, encoder, weights)
    if width <= 0 or not (4 * width).is_integer():
        raise ValueError(f"train.width: got {width}, wanted a multiple of 0.25 above 0")
    settings = {name: _scale(usual, width) for name, usual in architecture.channels.items()}
    settings |= {"in_channels": bands, "classes": classes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture.has_encoder:
            network = _build_on_encoder(model, encoder, settings)
            if weights != "none":
                load_encoder_weights(network.encoder, encoder, weights)
        else:
            network = architecture.network(**settings)
    segmenter = Segmenter(network, mean, std)
    return segmenter.to(memory_format=segmenter.layout)


def prepare_processes(model: Segmenter, *, on_gpus: bool) -> None:
    """Make a model fit to be trained by several processes, each with a part of every batch.

    Weights that take no part in the output are not trained (some encoders carry the end of their
    classifier along): processes would wait for their gradients. On GPUs, batches are normalised as
    a whole; else each process normalises its own part, for which a CPU has no other way.

    Args:
        model: is changed in place; its state has the same names.
        on_gpus: whether the processes compute on GPUs.
    """
    if on_gpus:
        # timm's: torch's own would lose the activations that are within timm's BatchNormAct2d.
        convert_sync_batchnorm(model)  # type: ignore[no-untyped-call, unused-ignore]
    was_training = model.training
    bands = model.mean.numel()
    with torch.random.fork_rng(devices=[]):
        empty = torch.zeros(1, bands, TRIAL_PX, TRIAL_PX, device=model.mean.device)
        model.eval()(empty).sum().backward()
    for weights in model.parameters():
        weights.requires_grad_(weights.grad is not None)
    model.zero_grad()
    model.train(was_training)


def _scale(usual: int | tuple[int, ...], width: float) -> int | tuple[int, ...]:
    if isinstance(usual, int):
        return int(usual * width)
    return tuple(int(channels * width) for channels in usual)


def _check_encoder(model: str, encoder: str, weights: str) -> None:
    """Refuse an encoder where there can be none, none where there must be one, and wrong names."""
    if not MODELS[model].has_encoder:
        if encoder != "none" or weights != "none":
            raise ValueError(
                f"train.model {model!r} has no encoder: got train.encoder {encoder!r} and "
                f"train.weights {weights!r}, wanted `none` for both"
            )
        return
    usual = ["resnet18", "resnet34", "mobilenet_v2"]
    if encoder == "none":
        raise ValueError(
            f"train.encoder: {model!r} needs one, got 'none': try {', '.join(usual)}, or a model "
            f"from scratch"
        )
    known: Sequence[str] = smp.encoders.get_encoder_names()
    if encoder in known:
        return
    # The listing alone: of other names timm asks the network, for minutes where there is none.
    from_timm = {f"tu-{name}" for name in timm.list_models()}
    with_tags = {f"tu-{name}" for name in timm.list_models(include_tags=True)}
    if encoder in from_timm | with_tags:
        return
    if f"tu-{encoder}" in from_timm:
        near = [f"tu-{encoder}"]
    elif encoder.startswith("tu-"):
        alike = sorted(with_tags if "." in encoder else from_timm)
        near = difflib.get_close_matches(encoder, alike, n=3)
        near = near or [f"tu-{name}" for name in ("resnet18", "hrnet_w18", "convnext_tiny")]
    else:
        near = difflib.get_close_matches(encoder, known, n=3) or usual
    raise ValueError(f"train.encoder: {encoder!r} is unknown; did you mean {', '.join(near)}?")


def _build_on_encoder(model: str, encoder: str, settings: dict[str, Any]) -> Any:
    """Make a network and try it on one empty image: not every encoder fits every decoder."""
    try:
        network = MODELS[model].network(encoder, encoder_weights=None, **settings)
        _try(network, settings["in_channels"], settings["classes"])
    except (
        KeyError,
        ValueError,
        RuntimeError,
        TypeError,
        AttributeError,
        AssertionError,
    ) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        raise ValueError(
            f"train.encoder {encoder!r} does not fit train.model {model!r} ({reason[:200]}). "
            f"Try resnet18, resnet34 or mobilenet_v2"
        ) from None
    return network


@torch.no_grad()  # not inference_mode: what a network keeps of the trial must serve in training
def _try(network: nn.Module, bands: int, classes: int) -> None:
    network.eval()
    shape = network(torch.zeros(1, bands, TRIAL_PX, TRIAL_PX)).shape
    if shape != (1, classes, TRIAL_PX, TRIAL_PX):
        raise ValueError(f"{TRIAL_PX} × {TRIAL_PX} px become logits of shape {tuple(shape)}")
    network.train()
