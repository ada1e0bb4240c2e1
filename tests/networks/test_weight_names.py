"""Weights files of other libraries: names are mapped, everything is loaded, or nothing is."""

import re

import pytest
import timm
import torch
from safetensors.torch import save_file

from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.pixel_classifiers.encoder_weights import describe_encoder, load_encoder
from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import PixelFeatureSettings
from pointcover.networks.weights_files import find_packaged_weights, read_weights
from tests.train_settings import network_settings

IMAGE = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64).sin()


def build(encoder, weights, bands=3):
    model = "dpt" if "vit" in encoder else "unet"
    statistics = BandStatistics((100.0,) * bands, (50.0,) * bands)
    settings = network_settings(model, encoder, 0.25)
    return build_model(settings, statistics, 3, weights=str(weights)).network.encoder.eval()


def draw(name, **options):
    """Return a network of timm with other weights than those that tests build."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return timm.create_model(name, **options).eval()


@torch.no_grad()
def last_features(network, image):
    *_, last = network.forward_intermediates(image, intermediates_only=True)
    return last


def assert_same(encoder, network):
    """Compare the deepest features."""
    with torch.no_grad():
        found = encoder(IMAGE)[-1]
        wanted = last_features(network, IMAGE)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


CHECKPOINTS = {
    "raw": lambda state: state,
    "DistributedDataParallel": lambda state: prefixed(state, "module."),
    "a dictionary": lambda state: {"epoch": 3, "state_dict": state},
    "timm's training": lambda state: {"state_dict": state, "optimizer": {}, "arch": "resnet18"},
    "torchgeo's pretraining": lambda state: {
        "state_dict": prefixed(state, "backbone.") | {"projection_head.weight": torch.zeros(2, 2)}
    },
    "torchgeo's segmentation": lambda state: {
        "state_dict": prefixed(state, "model.encoder.") | {"model.decoder.bias": torch.zeros(2)}
    },
    "DINO's teacher": lambda state: {"teacher": prefixed(state, "module.backbone.")},
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
@pytest.mark.slow
def test_checkpoints_of_other_libraries_are_taken(encoder, kind, tmp_path):
    network = draw("resnet18")
    state = network.state_dict()
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch.save(CHECKPOINTS[kind](headless), tmp_path / "checkpoint.ckpt")
    assert_same(build(encoder, tmp_path / "checkpoint.ckpt"), network)


@pytest.mark.parametrize("name", ["test_vit", "test_vit3"])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_vision_transformer_takes_timms_file(name, ending, tmp_path):
    network = draw(name)
    path = tmp_path / f"weights.{ending}"
    (torch.save if ending == "pth" else save_file)(network.state_dict(), path)
    encoder = build(f"tu-{name}", path)
    whole = network.state_dict()
    for key, value in encoder.model.state_dict().items():
        assert torch.equal(value, whole[key]), key


def test_a_classifier_of_other_classes_is_taken_without_its_head(tmp_path):
    network = draw("test_vit", num_classes=7)
    torch.save(network.state_dict() | {"mask_token": torch.zeros(1, 1, 64)}, tmp_path / "seven.pt")
    encoder = build("tu-test_vit", tmp_path / "seven.pt")
    assert torch.equal(encoder.model.pos_embed, network.pos_embed)


def test_position_embeddings_of_another_size_are_resampled(tmp_path):
    network = draw("test_vit", img_size=96)
    torch.save(network.state_dict(), tmp_path / "small.pt")
    encoder = build("tu-test_vit", tmp_path / "small.pt")
    assert encoder.model.pos_embed.shape != network.pos_embed.shape
    assert torch.equal(encoder.model.cls_token, network.cls_token)


def as_authors_of_convnext(state):
    """Rename timm's weights as the authors of ConvNeXt and of its DINOv3 weights have them."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"^stem\.", "downsample_layers.0.", name)
        name = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
        name = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", name)
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        name = name.replace("head.norm.", "norm.").replace("head.fc.", "head.")
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("way", ["network", "frozen"])
def test_convnext_takes_the_file_of_its_authors(way, tmp_path):
    network = draw("convnext_atto", conv_mlp=False)
    torch.save(as_authors_of_convnext(network.state_dict()), tmp_path / "convnext.pth")
    if way == "network":
        encoder = build("tu-convnext_atto", tmp_path / "convnext.pth")
    else:
        encoder = frozen("tu-convnext_atto", tmp_path / "convnext.pth").encoder.encoder
    assert_same(encoder, network)


def frozen(encoder, weights, blocks=None):
    described = describe_encoder(encoder, 3, (1,), blocks)
    features = PixelFeatures(PixelFeatureSettings(filter_bank=None, encoder=described), 3)
    load_encoder(features, str(weights))
    return features


def as_authors_of_dinov3(state):
    renamed = {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.ones(16)}
    for name, value in state.items():
        name = name.replace("reg_token", "storage_tokens")
        name = re.sub(r"gamma_(\d)", r"ls\1.gamma", name)
        renamed[name] = value
        if name.endswith("attn.qkv.weight"):
            renamed[name.replace("weight", "bias")] = torch.zeros(len(value))
            renamed[name.replace("weight", "bias_mask")] = torch.zeros(len(value))
    return renamed


@pytest.mark.slow
@pytest.mark.parametrize("way", ["network", "frozen"])
def test_dinov3_takes_the_file_of_its_authors_and_that_of_timm(way, tmp_path, capsys):
    network = draw("vit_small_patch16_dinov3")
    whole = network.state_dict()
    torch.save(as_authors_of_dinov3(whole), tmp_path / "authors.pth")
    save_file(whole, tmp_path / "timm.safetensors")
    for file in ("authors.pth", "timm.safetensors"):
        if way == "network":
            encoder = build("tu-vit_small_patch16_dinov3", tmp_path / file)
        else:
            encoder = frozen("tu-vit_small_patch16_dinov3", tmp_path / file, (12,)).encoder.encoder
        for key, value in encoder.model.state_dict().items():
            assert torch.equal(value, whole[key]), key
    assert capsys.readouterr().out == ""


def test_the_installed_package_is_imagenet_without_a_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    package = read_weights(find_packaged_weights("tf_efficientnet_lite0"))
    encoder = build("tu-tf_efficientnet_lite0", "imagenet")
    assert torch.equal(encoder.model.conv_stem.weight, package["_conv_stem.weight"])
    same = build("tu-tf_efficientnet_lite0", find_packaged_weights("tf_efficientnet_lite0"))
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
    four = build("tu-tf_efficientnet_lite0", "imagenet", bands=4)
    torch.testing.assert_close(
        four.model.conv_stem.weight, encoder.model.conv_stem.weight[:, [0, 1, 2, 0]] * 0.75
    )
    assert find_packaged_weights("tf_efficientnet_lite0.in1k") is not None
    assert find_packaged_weights("tf_efficientnet_lite9") is None
    assert find_packaged_weights("resnet18") is None


@pytest.mark.parametrize("bands", [1, 4])
def test_patches_of_three_bands_are_adapted(bands, tmp_path):
    network = draw("test_vit")
    torch.save(network.state_dict(), tmp_path / "vit.pt")
    found = build("tu-test_vit", tmp_path / "vit.pt", bands).model.patch_embed.proj.weight
    kernels = network.patch_embed.proj.weight
    wanted = kernels.sum(1, keepdim=True) if bands == 1 else kernels[:, [0, 1, 2, 0]] * 0.75
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("encoder", "name"), [("tu-resnet18", "resnet18"), ("tu-test_vit", "test_vit")]
)
def test_kernels_of_thirteen_bands_need_as_many(encoder, name, tmp_path):
    network = draw(name, in_chans=13)
    torch.save(network.state_dict(), tmp_path / "sentinel.pt")
    build(encoder, tmp_path / "sentinel.pt", 13)
    with pytest.raises(ValueError, match=r"has kernels of 13 bands, wanted 3 or 4\): give weights"):
        build(encoder, tmp_path / "sentinel.pt", 4)


@pytest.mark.parametrize(
    ("encoder", "name", "reason"),
    [
        ("tu-test_vit", "test_vit2", r"weights such as reg_token, lacks cls_token; wanted 78"),
        ("tu-test_vit", "resnet18", r"such as conv1\.weight, lacks cls_token"),
        ("tu-resnet18", "resnet34", r"has layer1\.2\.conv1\.weight too"),
        ("tu-convnext_atto", "convnext_femto", "wanted"),
        ("resnet34", "resnet18", r"lacks layer1\.2"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model.encoder."])
@pytest.mark.slow
def test_another_networks_weights_are_refused(encoder, name, reason, prefix, tmp_path):
    torch.save(prefixed(draw(name).state_dict(), prefix), tmp_path / "other.pt")
    reason = "found|has the shape" if prefix else reason
    with pytest.raises(
        ValueError, match=rf"other\.pt does not fit encoder '{encoder}' \(.*({reason})"
    ):
        build(encoder, tmp_path / "other.pt")


def test_a_frozen_encoder_takes_timms_whole_network(tmp_path):
    network = draw("test_convnext")
    save_file(network.state_dict(), tmp_path / "convnext.safetensors")
    features = frozen("tu-test_convnext", tmp_path / "convnext.safetensors")
    assert_same(features.encoder.encoder, network)
    with pytest.raises(ValueError, match=r"does not fit encoder 'tu-test_resnet'"):
        frozen("tu-test_resnet", tmp_path / "convnext.safetensors")


def test_blocks_of_a_convolutional_encoder_are_refused():
    with pytest.raises(ValueError, match=r"blocks: got \[3\], wanted null, since 'tu-resnet18'"):
        describe_encoder("tu-resnet18", 3, (1,), (3,))


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_weights_that_are_not_finite_are_refused(tmp_path, name):
    weights = {"conv.weight": torch.tensor([1.0, float("nan")])}
    save = save_file if name.endswith("safetensors") else torch.save
    save(weights, tmp_path / name)
    with pytest.raises(ValueError, match=r"holds weights that are not finite \(conv\.weight\)"):
        read_weights(tmp_path / name)
