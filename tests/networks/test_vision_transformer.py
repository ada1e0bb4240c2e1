"""Vision transformers as encoders: timm's values, any size and bands, windows on one grid."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from pointcover.features.encoder_pyramid import EncoderPyramid
from pointcover.features.settings import EncoderFeatureSettings
from pointcover.features.windows import WindowGrid
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.vision_transformer import (
    VisionTransformer,
    is_vision_transformer,
    resampling_weights,
)
from tests.features.test_windows import by_windows
from tests.train_settings import network_settings


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


ENCODERS = [
    "test_vit",
    "test_vit3",
    slow("vit_small_patch16_dinov3"),
    slow("vit_small_patch14_reg4_dinov2"),
    slow("deit_tiny_distilled_patch16_224"),
    slow("deit3_small_patch16_224"),
    slow("eva02_tiny_patch14_224"),
    slow("vit_small_patch16_rope_mixed_224"),
]


def draw(name, bands=3, blocks=None, seed=0):
    """Draw all weights, so that no token is the same as another."""
    torch.manual_seed(seed)
    encoder = VisionTransformer(name, bands, blocks).eval()
    for weights in encoder.parameters():
        if weights.ndim > 1:
            nn.init.normal_(weights, std=0.05)
    return encoder


def build(encoder, bands=3, width=0.25):
    statistics = BandStatistics((100.0,) * bands, (50.0,) * bands)
    return build_model(network_settings("dpt", encoder, width), statistics, 4, seed=1)


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_levels_are_the_features_that_timm_computes(name):
    encoder = draw(name)
    images = torch.randn(2, 3, 96, 352)
    levels = encoder(images)
    assert [level.shape for level in levels] == [(2, encoder.channels, 6, 22)] * 4
    side = encoder.patch_px
    if side == 14:
        images = functional.interpolate(images, (6 * 14, 22 * 14), mode="bicubic")
    count = len(encoder.model.blocks)
    places = [max(1, count * n // 4) - 1 for n in (1, 2, 3, 4)]
    theirs = encoder.model.forward_intermediates(
        images, indices=places, norm=True, intermediates_only=True
    )
    for level, wanted in zip(levels, theirs, strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-4, atol=1e-5)


def test_chosen_blocks_are_those_of_all():
    every = draw("test_vit", blocks=range(1, 7))
    some = draw("test_vit", blocks=(2, 5))
    some.load_state_dict(every.state_dict(), strict=False)
    assert len(some.model.blocks) == 5
    images = torch.randn(1, 3, 64, 64)
    levels = every(images)
    for level, number in zip(some(images), (2, 5), strict=True):
        assert torch.equal(level, levels[number - 1])
    with pytest.raises(ValueError, match=r"got blocks \[7\], wanted numbers from 1 to 6"):
        VisionTransformer("test_vit", 3, (7,))


@pytest.mark.parametrize(("old", "new"), [(14, 14), (14, 37), (37, 9), (10, 4), (7, 50)])
def test_resampling_is_that_of_torch(old, new):
    values = torch.randn(1, 1, old, 5)
    wanted = functional.interpolate(values, (new, 5), mode="bicubic", antialias=True)[0, 0]
    found = resampling_weights(old, new, values) @ values[0, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_vision_transformers_are_told_by_their_name():
    names = (
        "vit_small_patch16_dinov3.lvd1689m",
        "vit_base_patch14_dinov2",
        "deit_tiny_patch16_224",
    )
    assert all(is_vision_transformer(name) for name in names)
    others = ("convnext_tiny.dinov3_lvd1689m", "swin_tiny_patch4_window7_224", "resnet18", "zzz")
    assert not any(is_vision_transformer(name) for name in others)


@pytest.mark.parametrize(
    "encoder",
    ["tu-test_vit", slow("tu-vit_small_patch16_dinov3"), slow("tu-vit_small_patch14_dinov2")],
)
@pytest.mark.parametrize("size", [256, slow(512)])
def test_dpt_scores_images_of_four_bands_and_teaches_every_weight(encoder, size):
    segmenter = build(encoder, bands=4)
    logits = segmenter(torch.randint(0, 256, (2, 4, size, size), dtype=torch.uint8))
    assert logits.shape == (2, 4, size, size)
    logits.square().mean().backward()
    assert [name for name, one in segmenter.named_parameters() if one.grad is None] == []


@torch.no_grad()
@pytest.mark.slow
def test_the_decoder_has_its_features_at_the_same_place_in_windows_of_any_size():
    """Without attention, and where no padding reaches, a window is a part of the image."""
    network = build("tu-test_vit").eval().network
    nn.init.zeros_(network.encoder.model.pos_embed)
    for block in network.encoder.model.blocks:
        nn.init.zeros_(block.attn.proj.weight)
    whole = torch.randn(1, 3, 896, 1024)
    inside = network(whole)[..., 384:512, 512:640]
    window = network(whole[..., 128:])[..., 384:512, 384:512]
    torch.testing.assert_close(window, inside, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1, 2])
@pytest.mark.parametrize("name", ["test_vit", slow("eva02_tiny_patch14_224")])
@torch.no_grad()
def test_without_attention_features_of_windows_are_those_of_the_image(name, scale):
    """Cells of windows lie on the image's grid. Only attention sees beyond the margin."""
    encoder = draw(name)
    nn.init.zeros_(encoder.model.pos_embed)
    for block in encoder.model.blocks:
        nn.init.zeros_(block.attn.proj.weight)
    settings = EncoderFeatureSettings(scales=(scale,), margin_cells=2)
    pyramid = EncoderPyramid(encoder, settings=settings)
    image = torch.rand(3, 130, 200)
    grid = WindowGrid(130, 200, pyramid.margin_px, pyramid.alignment_px, 64)
    difference = by_windows(pyramid, image, grid) - pyramid(image[None])[0]
    assert difference.abs().max() < 1e-3


def test_a_frozen_encoder_keeps_its_weights_and_its_mode():
    segmenter = build("tu-test_vit")
    segmenter.freeze_encoder()
    assert segmenter.train().training
    assert not segmenter.network.encoder.training
    assert segmenter.network.decoder.training
    before = {name: value.clone() for name, value in segmenter.network.encoder.named_parameters()}
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=0.1)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    head = segmenter.network.segmentation_head[-1].weight.detach().clone()
    segmenter(images).square().mean().backward()
    optimizer.step()
    for name, value in segmenter.network.encoder.named_parameters():
        assert torch.equal(value, before[name]), name
    assert not torch.equal(segmenter.network.segmentation_head[-1].weight, head)


def test_a_frozen_encoder_keeps_its_batch_statistics():
    statistics = BandStatistics((100.0,) * 3, (50.0,) * 3)
    segmenter = build_model(network_settings("unet", "resnet18", 0.25), statistics, 4, seed=1)
    segmenter.freeze_encoder()
    before = segmenter.network.encoder.bn1.running_mean.clone()
    segmenter.train()(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    assert torch.equal(segmenter.network.encoder.bn1.running_mean, before)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-convnext_atto"])
def test_dpt_on_another_encoder_is_refused_with_some_to_try(encoder):
    with pytest.raises(
        ValueError, match=rf"'{encoder}' does not fit train\.model 'dpt' .*Try tu-vit_small_patch16"
    ):
        build(encoder)


def test_a_vision_transformer_elsewhere_is_refused_with_dpt():
    statistics = BandStatistics((100.0,) * 3, (50.0,) * 3)
    with pytest.raises(
        ValueError, match=r"is a vision transformer\)\. Try .*, or train\.model dpt"
    ):
        build_model(network_settings("unet", "tu-test_vit"), statistics, 4)
