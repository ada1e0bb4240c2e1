"""Encoder pyramids: geometry by an encoder whose answers are known, and real encoders."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from pointcover.features.encoder_pyramid import EncoderPyramid
from pointcover.features.resize_loops import enlarge
from pointcover.features.settings import EncoderFeatureSettings


class Pooling(nn.Module):
    """An encoder whose levels are means of the image."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images, *(functional.avg_pool2d(images, stride) for stride in (2, 4, 8))]


def pooling(**settings: object) -> EncoderPyramid:
    return EncoderPyramid(
        Pooling(), (0.5, 0.5), (0.25, 0.25), EncoderFeatureSettings.model_validate(settings)
    )


def resnet(**settings: object) -> EncoderPyramid:
    torch.manual_seed(0)
    encoder = smp.encoders.get_encoder("resnet18", in_channels=3, depth=5, weights=None)
    return EncoderPyramid(encoder, settings=EncoderFeatureSettings.model_validate(settings))


@pytest.mark.parametrize("scale", [0.5, 1, 2, 4])
def test_levels_are_sampled_where_the_pixels_are(scale: float) -> None:
    """A ramp is its own mean everywhere: each level gives it back, away from the edges."""
    rows, cols = torch.meshgrid(torch.arange(96.0), torch.arange(80.0), indexing="ij")
    image = torch.stack([rows, cols])[None] / 100
    features = pooling(scales=(scale,))(image)
    assert features.shape == (1, 6, 96, 80)
    inside = slice(24, -24)
    expected = ((image - 0.5) / 0.25).repeat(1, 3, 1, 1)
    torch.testing.assert_close(
        features[..., inside, inside], expected[..., inside, inside], rtol=0, atol=1e-5
    )


def test_scales_follow_one_another() -> None:
    image = torch.rand(1, 2, 32, 48)
    both = pooling(scales=(1, 2))(image)
    assert torch.equal(both[:, :6], pooling(scales=(1,))(image))
    torch.testing.assert_close(both[:, 6:], pooling(scales=(2,))(image))


def test_levels_are_chosen_by_number() -> None:
    image = torch.rand(1, 2, 32, 32)
    chosen, every = pooling(levels=(1, 3)), pooling()
    features = every(image)
    assert torch.equal(chosen(image), torch.cat([features[:, :2], features[:, 4:]], dim=1))
    assert chosen.names()[0] == "scale_2_level_1_channel_1"
    assert chosen.names()[-1] == "scale_2_level_3_channel_2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("views", "turn"),
    [
        (2, lambda images: images.flip(2, 3)),
        (4, lambda images: images.flip(3)),
        (8, lambda images: images.transpose(2, 3)),
        (8, lambda images: images.rot90(1, (2, 3))),
    ],
)
def test_the_mean_of_views_turns_with_the_image(views: int, turn) -> None:
    image = torch.rand(1, 3, 64, 96)
    averaged, single = resnet(scales=(1,), views=views), resnet(scales=(1,))
    assert averaged.count == single.count
    torch.testing.assert_close(averaged(turn(image)), turn(averaged(image)), rtol=1e-4, atol=1e-4)
    assert (single(turn(image)) - turn(single(image))).abs().max() > 0.01


def test_views_change_nothing_where_the_encoder_is_symmetric() -> None:
    image = torch.rand(1, 2, 32, 48)
    torch.testing.assert_close(pooling(views=8)(image), pooling()(image))


def test_points_have_the_features_of_the_map() -> None:
    pyramid = resnet(scales=(1, 2))
    image = torch.rand(3, 75, 101)
    features = pyramid(image[None])[0]
    assert features.shape == (pyramid.count, 75, 101) == (len(pyramid.names()), 75, 101)
    rows = torch.tensor([0, 0, 74, 74, 31, 40])
    cols = torch.tensor([0, 100, 0, 100, 17, 77])
    at = pyramid.at(image, rows, cols)
    torch.testing.assert_close(at, features[:, rows, cols].T, rtol=1e-4, atol=1e-4)


def test_projection_is_the_linear_layer_of_the_features() -> None:
    pyramid = resnet()
    images = torch.rand(2, 3, 50, 64)
    weight, bias = torch.randn(5, pyramid.count) / 30, torch.randn(5)
    expected = torch.einsum("kf,nfhw->nkhw", weight, pyramid(images)) + bias.view(1, -1, 1, 1)
    logits = pyramid.project(images, weight, bias)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_encoder_stays_frozen() -> None:
    pyramid = resnet().train()
    assert not any(module.training for module in pyramid.encoder.modules())
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert not pyramid(images).requires_grad
    assert not any(parameter.requires_grad for parameter in pyramid.parameters())


def test_a_timm_model_of_features_is_an_encoder() -> None:
    encoder = timm.create_model("tf_efficientnet_lite0", features_only=True, in_chans=4)
    pyramid = EncoderPyramid(encoder, (0.5,) * 4, (0.5,) * 4)
    assert pyramid.count == sum(encoder.feature_info.channels()) == 16 + 24 + 40 + 112 + 320
    assert pyramid.alignment_px == 16
    assert pyramid(torch.rand(1, 4, 33, 40)).shape == (1, 512, 33, 40)


def test_autocast_of_the_encoder_leaves_features_in_float32() -> None:
    pyramid = resnet()
    images = torch.rand(1, 3, 64, 64)
    exact = pyramid(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = pyramid(images)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    error = (rounded - exact).norm() / exact.norm()
    assert error < 0.02


def test_wrong_inputs_are_refused() -> None:
    pyramid = pooling()
    with pytest.raises(ValueError, match=r"\(N, 2, H, W\)"):
        pyramid(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"wanted \(4, 6\)"):
        pyramid.project(torch.rand(1, 2, 32, 32), torch.rand(4, 5), torch.rand(4))
    with pytest.raises(ValueError, match="wanted some of 1 to 3"):
        pooling(levels=(4,))
    with pytest.raises(ValueError, match="powers of two"):
        pooling(scales=(3,))


@pytest.mark.slow
def test_export_of_the_projection_gives_the_same_values_at_another_size() -> None:
    class Head(nn.Module):
        def __init__(self, pyramid: EncoderPyramid) -> None:
            super().__init__()
            self.pyramid = pyramid
            self.linear = nn.Linear(pyramid.count, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.pyramid.project(images, self.linear.weight, self.linear.bias)

    head = Head(resnet(levels=(1, 2, 3), views=8))
    sides = {2: 32 * torch.export.Dim("rows", min=2), 3: 32 * torch.export.Dim("cols", min=2)}
    program = torch.export.export(head, (torch.rand(1, 3, 64, 96),), dynamic_shapes=(sides,))
    images = torch.rand(1, 3, 96, 160)
    torch.testing.assert_close(program.module()(images), head(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(13, 30), (1, 1), (3, 2)])
def test_loops_enlarge_as_torch_does(factor: int, height: int, width: int) -> None:
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.interpolate(images, scale_factor=factor, mode="bicubic")
    found = torch.from_numpy(enlarge(images[0].numpy(), factor))
    torch.testing.assert_close(found, wanted[0], rtol=0, atol=2e-6)
