"""Pretrained weights of encoders: downloaded or read from a file, without unpickling code."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants, get_session
from segmentation_models_pytorch.encoders import TimmUniversalEncoder
from torch import Tensor, nn

REMEDY = (
    "set train.weights to `none` (random weights), or to the path of a file with the encoder's "
    "weights that you downloaded elsewhere"
)
HUB_TIMEOUT_S: Final = 10


def load_encoder_weights(encoder: nn.Module, name: str, weights: str) -> None:
    """Load weights into an encoder; kernels of three bands are adapted to its number of bands.

    Args:
        encoder: an encoder of segmentation-models-pytorch.
        name: its name there.
        weights: `imagenet`, or the path of a state dict (.pt, .pth or .safetensors) of such an
            encoder or, for encoders of timm, of timm's whole network.

    Raises:
        ConnectionError: `imagenet` weights cannot be fetched.
        FileNotFoundError: there is no such file.
        ValueError: the file holds no weights, or those of another encoder.
    """
    state = _fetch_imagenet(name) if weights == "imagenet" else read_weights(Path(weights))
    try:
        if isinstance(encoder, TimmUniversalEncoder):
            state = _rename_timm(state, encoder)
        encoder.load_state_dict(_adapt(state, encoder))
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        lines = str(error).splitlines()
        raise ValueError(
            f"train.weights: {weights} does not fit encoder {name!r} "
            f"({' '.join(' '.join(lines[:3]).split())[:300]}): give weights of this encoder, or "
            f"change train.encoder"
        ) from None


def fetch_timm_features(name: str) -> dict[str, Tensor]:
    """Fetch the ImageNet weights of one of timm's encoders, for `features_only` models.

    Raises:
        ConnectionError: they cannot be fetched.
        ValueError: timm has none of this name.
    """
    state = _fetch_imagenet(f"tu-{name}")
    return {key.removeprefix("model."): value for key, value in state.items()}


def adapt_kernels(kernels: Tensor, bands: int) -> Tensor:
    """Adapt the kernels of a first convolution, made for three bands, to another number.

    Args:
        kernels: (channels, 3, height, width).
        bands: one band gets the sum of the three kernels. Of several, band b gets kernel b modulo
            3, scaled by 3 / bands, so that features keep about their scale.

    Returns:
        (channels, bands, height, width).
    """
    if bands == 1:
        return kernels.sum(dim=1, keepdim=True)
    return kernels[:, [band % 3 for band in range(bands)]] * (3 / bands)


def _adapt(state: Any, encoder: nn.Module) -> dict[str, Any]:
    """Adapt all kernels that differ from the encoder's only in the number of bands.

    They are found by shape, since encoders with branches have several.
    """
    adapted = dict(state)
    for name, wanted in encoder.state_dict().items():
        kernels = adapted.get(name)
        if isinstance(kernels, Tensor) and kernels.ndim == wanted.ndim == 4:
            channels, bands, *size = wanted.shape
            if bands != 3 and kernels.shape == (channels, 3, *size):
                adapted[name] = adapt_kernels(kernels, bands)
    return adapted


def _rename_timm(state: Any, encoder: TimmUniversalEncoder) -> Any:
    """Rename the weights of timm's whole network, as timm publishes them, to the encoder's names.

    The encoder is a part of that network under other names (`layer1.0` may be `model.layer1_0`).
    Weights outside the encoder, such as the classifier's, are left out. A weight that the network
    does not have means another network: then nothing is renamed.
    """
    wanted = encoder.state_dict()
    if wanted.keys() == state.keys():
        return state
    whole = timm.create_model(encoder.name).state_dict()
    if not state.keys() <= whole.keys():
        return state
    by_plain_name = {_plain(name): value for name, value in state.items()}
    return {name: by_plain_name[_plain(name)] for name in wanted if _plain(name) in by_plain_name}


def _plain(name: str) -> str:
    while name.startswith("model."):
        name = name.removeprefix("model.")
    return name.replace(".", "_")


def _fetch_imagenet(name: str) -> Any:
    is_timm = name.startswith("tu-")
    try:
        if is_timm and not timm.models.is_model_pretrained(name.removeprefix("tu-")):
            # timm only logs this, and continues with random weights.
            raise ValueError("timm has none for this name")
        with _offline_unless_hub_answers():
            pretrained = smp.encoders.get_encoder(name, weights=True if is_timm else "imagenet")
    except Exception as error:  # each downloader raises exceptions of its own
        # Some exceptions are both a ValueError and an OSError.
        if isinstance(error, KeyError | ValueError) and not isinstance(error, OSError):
            raise ValueError(
                f"train.weights: encoder {name!r} has no `imagenet` weights "
                f"({' '.join(str(error).split())}); {REMEDY}"
            ) from None
        raise ConnectionError(
            f"train.weights: the `imagenet` weights of encoder {name!r} could not be fetched "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); {REMEDY}"
        ) from None
    return pretrained.state_dict()


@contextmanager
def _offline_unless_hub_answers() -> Iterator[None]:
    """Send one request to the Hub; if it does not answer, use only files in the local cache.

    Without a network connection huggingface_hub retries each file for 25 s, or for minutes if
    packets are dropped, and has no setting for it.
    """
    before = constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception:  # a download would fail in the same way
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def read_weights(path: Path) -> Any:
    """Read a state dict saved by torch or as safetensors; nothing is unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read as weights.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"train.weights: {path} does not exist, wanted `imagenet`, `none` or a weights file"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many kinds of errors
        raise ValueError(
            f"train.weights: {path} cannot be read as weights "
            f"({' '.join(str(error).split())[:200]}): wanted a state dict saved by torch or as "
            f"safetensors"
        ) from None
