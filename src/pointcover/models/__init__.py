"""Networks: from a name to a segmenter that takes raw tiles. The one door to smp."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any, Final

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from pointcover.models.weights import load_encoder_weights

MODELS: Final[dict[str, Callable[..., nn.Module]]] = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "fpn": smp.FPN,
    "deeplabv3plus": smp.DeepLabV3Plus,
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
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Score images: (B, bands, H, W) uint8 → logits (B, C, H, W); H and W multiples of 32."""
        normalised = (images.float() - self.mean) / self.std
        logits: Tensor = self.network(normalised.contiguous(memory_format=torch.channels_last))
        return logits


def build_model(
    model: str, encoder: str, *, weights: str, bands: int, classes: int,
    mean: Sequence[float], std: Sequence[float], seed: int,
) -> Segmenter:  # fmt: skip
    """Build a segmenter; the same seed gives the same first weights.

    Args:
        model: a key of MODELS.
        encoder: a name that segmentation-models-pytorch knows.
        weights: `imagenet`, `none`, or the path of a file with the encoder's weights.
        bands: bands of the images.
        classes: number of classes.
        mean: mean by band.
        std: standard deviation by band.
        seed: draws the first weights.

    Raises:
        ValueError: a name is unknown, or the weights do not fit; the message names what does.
        ConnectionError: `imagenet` weights cannot be fetched.
    """
    if model not in MODELS:
        raise ValueError(f"train.model: got {model!r}, wanted one of {', '.join(MODELS)}")
    known = smp.encoders.get_encoder_names()
    if encoder not in known and not encoder.startswith("tu-"):
        raise ValueError(_unknown_encoder(encoder, known))
    network: Any
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # The first convolution is made for three bands, then adapted, as pretrained ones must be.
        first_bands = bands if weights == "none" else 3
        settings: dict[str, Any] = {"encoder_weights": None, "classes": classes}
        try:
            network = MODELS[model](encoder, in_channels=first_bands, **settings)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"train.encoder {encoder!r} does not fit train.model {model!r}: "
                f"{' '.join(str(error).split())}. Try resnet18, resnet34 or mobilenet_v2"
            ) from None
        if weights != "none":
            load_encoder_weights(network.encoder, encoder, weights)
            if bands != 3:
                network.encoder.set_in_channels(bands, pretrained=True)
    return Segmenter(network, mean, std).to(memory_format=torch.channels_last)


def _unknown_encoder(encoder: str, known: Sequence[str]) -> str:
    usual = ["resnet18", "resnet34", "mobilenet_v2"]
    near = difflib.get_close_matches(encoder, known, n=3) or usual
    return f"train.encoder: {encoder!r} is unknown; did you mean {', '.join(near)}?"
