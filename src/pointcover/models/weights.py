"""Weights of an encoder: fetched, or read from a file; always strictly, never unpickled."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import segmentation_models_pytorch as smp
import torch
from huggingface_hub import constants, get_session
from torch import nn

REMEDY = (
    "set train.weights to `none` (random first weights), or to the path of a file with the "
    "encoder's weights that you fetched elsewhere"
)
HUB_TIMEOUT_S: Final = 10


def load_encoder_weights(encoder: nn.Module, name: str, weights: str) -> None:
    """Load weights into a three-band encoder.

    Args:
        encoder: an encoder of segmentation-models-pytorch.
        name: its name there.
        weights: `imagenet`, or the path of a state dict (.pt, .pth or .safetensors).

    Raises:
        ConnectionError: `imagenet` weights cannot be fetched.
        FileNotFoundError: there is no such file.
        ValueError: the file holds no weights, or those of another encoder.
    """
    state = _fetch_imagenet(name) if weights == "imagenet" else _read(Path(weights))
    try:
        encoder.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        lines = str(error).splitlines()
        raise ValueError(
            f"train.weights: {weights} does not fit encoder {name!r} "
            f"({' '.join(' '.join(lines[:3]).split())[:300]}): give weights of this encoder, or "
            f"change train.encoder"
        ) from None


def _fetch_imagenet(name: str) -> Any:
    try:
        with _offline_unless_hub_answers():
            pretrained = smp.encoders.get_encoder(name, weights="imagenet")
    except Exception as error:  # every downloader behind it raises its own kind
        # Some are a ValueError as well as an OSError.
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
    """Ask the Hub once; where it is silent, let only what was fetched before be used.

    Without a network huggingface_hub tries each file again for 25 s, or minutes where packets are
    dropped, and has no setting for it.
    """
    before = constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception:  # whatever it is, its downloads would meet it as well
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(
            f"train.weights: {path} does not exist, wanted `imagenet`, `none` or a weights file"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as there are formats
        raise ValueError(
            f"train.weights: {path} cannot be read as weights "
            f"({' '.join(str(error).split())[:200]}): wanted a state dict saved by torch or as "
            f"safetensors"
        ) from None
