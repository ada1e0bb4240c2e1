"""Renaming of EfficientNet-Lite weights, on weights that timm drew."""

import re

import pytest
import timm
import torch
from torch import Tensor

from pointcover.features.lite0_weights import is_lite_state, to_timm_names

FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
LATER = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
OUTSIDE = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}


def as_package(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename timm's state dict as the packages of the registry have it, block by block."""
    renamed, blocks = {}, []
    for name, tensor in state.items():
        found = re.fullmatch(r"blocks\.(\d+\.\d+)\.(\w+)\.(\w+)", name)
        if not found:
            layer, kind = name.rsplit(".", 1)
            renamed[f"{OUTSIDE[layer]}.{kind}"] = tensor
            continue
        if found[1] not in blocks:
            blocks.append(found[1])
        number = blocks.index(found[1])
        layers = LATER if number else FIRST
        renamed[f"_blocks.{number}.{layers[found[2]]}.{found[3]}"] = tensor
    return renamed


@pytest.mark.parametrize("lite", [0, 1, 2])
def test_renamed_weights_are_those_of_timm(lite: int) -> None:
    torch.manual_seed(lite)
    model = timm.create_model(f"tf_efficientnet_lite{lite}").eval()
    package = as_package(model.state_dict())
    assert is_lite_state(package)
    assert not is_lite_state(model.state_dict())
    renamed = to_timm_names(package)
    assert list(renamed) == list(model.state_dict())
    torch.manual_seed(9)
    other = timm.create_model(f"tf_efficientnet_lite{lite}").eval()
    other.load_state_dict(renamed, strict=True)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(other(image), model(image))


def test_levels_alone_take_the_weights_without_the_classifier() -> None:
    package = as_package(timm.create_model("tf_efficientnet_lite0").state_dict())
    levels = timm.create_model("tf_efficientnet_lite0", features_only=True)
    levels.load_state_dict(to_timm_names(package, classifier=False), strict=True)


def test_other_names_are_refused() -> None:
    package = as_package(timm.create_model("tf_efficientnet_lite0").state_dict())
    with pytest.raises(ValueError, match=r"got the name '_blocks\.3\._se\.weight'"):
        to_timm_names({**package, "_blocks.3._se.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="got weights with 0 blocks"):
        to_timm_names({"conv1.weight": torch.zeros(1)})
