"""An encoder in stripes gives the levels that it gives at once."""

from functools import cache

import pytest
import timm
import torch
from torch import nn

from pointcover.features import encoder_stripes
from pointcover.features.encoder_pyramid import EncoderPyramid
from pointcover.features.encoder_stripes import StripedEncoder
from pointcover.features.settings import EncoderFeatureSettings


@cache
def lite() -> nn.Module:
    """An EfficientNet-Lite0 with batch statistics unlike those of a new one."""
    torch.manual_seed(0)
    encoder = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    return encoder


def pyramid(*scales: float) -> EncoderPyramid:
    return EncoderPyramid(lite(), settings=EncoderFeatureSettings(scales=scales))


def whole_levels(image: torch.Tensor, *scales: float) -> list[torch.Tensor]:
    """The levels as timm computes them."""
    plain = pyramid(*scales)
    plain._striped = None
    return list(plain.levels_of(image))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 1, 2, 4])
def test_stripes_give_the_levels_of_timm(monkeypatch, scale) -> None:
    monkeypatch.setattr(encoder_stripes, "VALUES", 1 << 16)
    image = torch.rand(1, 3, 200, 96, generator=torch.Generator().manual_seed(0))
    found = list(pyramid(scale).levels_of(image))
    wanted = whole_levels(image, scale)
    assert len(found) == len(wanted) == 5
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.std()))


def test_deep_levels_of_a_part_are_nearly_those_of_the_image() -> None:
    image = torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(0))
    rows, cols = slice(150, 180), slice(40, 200)
    pair = (pyramid(4).encode(image, part) for part in (None, (rows, cols)))
    for number, (whole, part) in enumerate(zip(*pair, strict=True)):
        assert (part.rows, part.cols) == (slice(80, 248), slice(0, 264))
        wanted, found = (each.sample(rows, cols) for each in (whole, part))
        difference = (found - wanted).square().mean().sqrt() / wanted.std()
        assert difference < (1e-4 if number < 4 else 0.03)


def test_weights_that_are_loaded_later_are_used() -> None:
    image = torch.rand(1, 3, 64, 64)
    ours = pyramid(1)
    before = list(ours.levels_of(image))
    state = {name: values.clone() for name, values in lite().state_dict().items()}
    halved = {name: values / 2 if "conv_stem" in name else values for name, values in state.items()}
    try:
        lite().load_state_dict(halved)
        after = list(ours.levels_of(image))
        wanted = whole_levels(image, 1)
    finally:
        lite().load_state_dict(state)
    torch.testing.assert_close(after[0], wanted[0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(after[0], before[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv3_small_050", "resnet10t"])
def test_encoders_that_average_over_the_image_or_have_branches_are_left_whole(name) -> None:
    assert StripedEncoder.fits(lite())
    assert not StripedEncoder.fits(timm.create_model(name, features_only=True))
