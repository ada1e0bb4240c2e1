"""Build a segmenter from its settings, with random or ImageNet-pretrained weights."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import segmentation_models_pytorch as smp
import timm
import torch
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined, unused-ignore]
from torch import nn

from pointcover.networks.architectures import MODELS, PIXEL_CLASSIFIER
from pointcover.networks.pixel_classifiers.settings import PixelClassifierSettings
from pointcover.networks.segmenter import PixelSegmenter, Segmenter
from pointcover.networks.settings import NetworkSettings
from pointcover.networks.vision_transformer import is_vision_transformer
from pointcover.networks.weights import load_encoder_weights

TRIAL_PX: Final = 64
"""Height and width of the image of zeros with which a model is tested."""


@dataclass(frozen=True)
class BandStatistics:
    """Mean and standard deviation of each band of the train images."""

    mean: Sequence[float]
    std: Sequence[float]


def build_model(
    settings: NetworkSettings,
    statistics: BandStatistics,
    classes: int,
    *,
    weights: str = "none",
    seed: int = 0,
) -> Segmenter:
    """Build a segmenter; the same seed gives the same initial weights.

    Args:
        settings: architecture, encoder and width.
        statistics: of the bands of the images.
        classes: number of classes.
        weights: of the encoder: `imagenet`, `none`, or the path of a file. Weights of three bands
            are adapted to other numbers of bands.
        seed: of the random initial weights.

    Raises:
        ValueError: a name is unknown, or names, width or weights do not fit together; the message
            says what does.
        ConnectionError: `imagenet` weights cannot be fetched.
    """
    model, encoder, width = settings.model, settings.encoder, settings.width
    if model not in MODELS:
        near = difflib.get_close_matches(model, MODELS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"train.model: got {model!r}, wanted one of {', '.join(MODELS)}{hint}")
    architecture = MODELS[model]
    _check_encoder(model, encoder, weights)
    if width <= 0 or not (4 * width).is_integer():
        raise ValueError(f"train.width: got {width}, wanted a multiple of 0.25 above 0")
    sizes: dict[str, Any] = {
        name: _scale(usual, width) for name, usual in architecture.channels.items()
    }
    sizes |= {"in_channels": len(statistics.mean), "classes": classes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture.has_encoder:
            network = _build_on_encoder(model, encoder, sizes)
            if weights != "none":
                load_encoder_weights(network.encoder, encoder, weights)
        else:
            network = architecture.build(**sizes)
    segmenter = Segmenter(network, statistics.mean, statistics.std)
    return segmenter.to(memory_format=segmenter.layout)


def build_fitted(
    settings: NetworkSettings,
    statistics: BandStatistics,
    classes: int,
    classifier: PixelClassifierSettings | None,
) -> Segmenter:
    """Build the segmenter that takes the weights of a fitted model.

    Args:
        settings: of the model.
        statistics: of the bands of the images.
        classes: number of classes.
        classifier: of a pixel classifier: its features and the sizes of its head.

    Raises:
        ValueError: a name is unknown, or values do not go together.
    """
    is_classifier = MODELS[settings.model].fitted_by == PIXEL_CLASSIFIER
    if is_classifier != (classifier is not None):
        raise ValueError(
            f"got {'no' if is_classifier else 'a'} description of a pixel classifier "
            f"(`classifier`), and {settings.model!r} is {'one' if is_classifier else 'none'}"
        )
    if classifier is None:
        return build_model(settings, statistics, classes)
    bands = len(statistics.mean)
    if (classifier.bands, classifier.classes) != (bands, classes):
        raise ValueError(
            f"got a classifier of {classifier.bands} band(s) and {classifier.classes} classes, "
            f"wanted {bands} and {classes}"
        )
    network = MODELS[settings.model].build(classifier)
    return PixelSegmenter(network, statistics.mean, statistics.std)


def prepare_processes(model: Segmenter, *, on_gpus: bool) -> None:
    """Prepare a model for training by several processes, each with a part of every batch.

    Weights without effect on the output are frozen (some encoders hold parts of their classifier),
    since processes would wait for their gradients. On GPUs, batch normalisation is synchronised
    over the whole batch; on a CPU, where torch has no such layer, it is over each process's part.

    Args:
        model: changed in place; its state dict keeps its names.
        on_gpus: whether the processes compute on GPUs.
    """
    if on_gpus:
        # timm's function: torch's would lose the activations of timm's BatchNormAct2d.
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
    architecture = MODELS[model]
    if architecture.fitted_by == PIXEL_CLASSIFIER:
        raise ValueError(f"{model!r} has no first weights: build it from its checkpoint")
    if not architecture.has_encoder:
        if encoder != "none" or weights != "none":
            raise ValueError(
                f"train.model {model!r} has no encoder: got train.encoder {encoder!r} and "
                f"train.weights {weights!r}, wanted `none` for both"
            )
        return
    usual = list(architecture.examples)
    if encoder == "none":
        raise ValueError(
            f"train.encoder: {model!r} needs one, got 'none': try {', '.join(usual)}, or a model "
            f"without an encoder"
        )
    known: Sequence[str] = smp.encoders.get_encoder_names()
    if encoder in known:
        return
    # Only the list: for other names timm sends a request, which takes minutes when offline.
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


def _build_on_encoder(model: str, encoder: str, sizes: dict[str, Any]) -> Any:
    """Build a network and test it on an image of zeros: not every encoder fits every decoder."""
    architecture = MODELS[model]
    examples = ", ".join(architecture.examples)
    is_vit = encoder.startswith("tu-") and is_vision_transformer(encoder.removeprefix("tu-"))
    if architecture.needs_vision_transformer and not is_vit:
        raise ValueError(
            f"train.encoder {encoder!r} does not fit train.model {model!r} (it is no vision "
            f"transformer of timm for images of any size). Try {examples}"
        )
    if is_vit and not architecture.needs_vision_transformer:
        raise ValueError(
            f"train.encoder {encoder!r} does not fit train.model {model!r} (it is a vision "
            f"transformer). Try {examples}, or train.model dpt"
        )
    try:
        network = architecture.build(encoder, **sizes)
        _try(network, sizes["in_channels"], sizes["classes"])
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
            f"Try {examples}"
        ) from None
    return network


@torch.no_grad()  # not inference_mode: tensors that a network keeps must be usable in training
def _try(network: nn.Module, bands: int, classes: int) -> None:
    network.eval()
    shape = network(torch.zeros(1, bands, TRIAL_PX, TRIAL_PX)).shape
    if shape != (1, classes, TRIAL_PX, TRIAL_PX):
        raise ValueError(f"{TRIAL_PX} × {TRIAL_PX} px become logits of shape {tuple(shape)}")
    network.train()
