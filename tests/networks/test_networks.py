"""Every network keeps the contract of a segmenter, and encoder weights come whole or not at all."""

import os
import socket
import time

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from pointcover.networks.architectures import MODELS
from pointcover.networks.build import BandStatistics, build_model, prepare_processes
from pointcover.networks.segmenter import Segmenter
from pointcover.networks.weight_names import adapt_kernels
from pointcover.networks.weights import load_encoder_weights
from tests.train_settings import NETWORKS, network_settings, small_encoder

ON_ENCODERS = [name for name in NETWORKS if MODELS[name].has_encoder]
FROM_SCRATCH = [name for name in NETWORKS if name not in ON_ENCODERS]
every_model = pytest.mark.parametrize("model", NETWORKS)
every_model_on_an_encoder = pytest.mark.parametrize("model", ON_ENCODERS)
every_model_from_scratch = pytest.mark.parametrize("model", FROM_SCRATCH)

MEAN, STD = (90.0, 100.0, 110.0, 120.0, 130.0, 140.0), (40.0, 30.0, 20.0, 10.0, 50.0, 60.0)


def build(model="unet", encoder=None, *, weights="none", bands=3, classes=4, seed=1, width=0.25):
    """A small network: of the smallest width, on a small encoder where it has one."""
    if encoder is None:
        encoder = small_encoder(model)
    settings = network_settings(model, encoder, width)
    statistics = BandStatistics(MEAN[:bands], STD[:bands])
    return build_model(settings, statistics, classes, weights=weights, seed=seed)


def images(bands=3, batch=2, height=64, width=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, bands, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def are_equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# What every network promises


def assert_teaches_every_weight(segmenter, logits):
    logits.square().mean().backward()
    gradients = {name: weights.grad for name, weights in segmenter.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    return gradients


@every_model
@pytest.mark.parametrize(
    "bands", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4)), 3, 6]
)
def test_raw_tiles_become_finite_scores_of_every_pixel_that_teach_every_weight(model, bands):
    segmenter = build(model, bands=bands)
    logits = segmenter(images(bands, height=64, width=96))
    assert logits.shape == (2, 4, 64, 96)
    assert torch.isfinite(logits).all()
    assert logits.is_contiguous(memory_format=torch.channels_last)
    gradients = assert_teaches_every_weight(segmenter, logits).values()
    first = next(gradient for gradient in gradients if gradient.ndim == 4)
    assert first.shape[1] == bands
    assert torch.count_nonzero(first) > 0


@every_model
def test_all_kernels_lie_channels_last(model):
    kernels = [module.weight for module in build(model).modules() if isinstance(module, nn.Conv2d)]
    assert kernels
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)


@every_model
def test_training_in_bf16_is_finite(model):
    segmenter = build(model)
    with torch.autocast("cpu", torch.bfloat16):
        logits = segmenter(images())
    assert logits.dtype == torch.bfloat16
    assert torch.isfinite(logits).all()
    logits.float().square().mean().backward()
    assert all(torch.isfinite(weights.grad).all() for weights in segmenter.parameters())


@every_model
def test_a_size_that_is_no_multiple_of_32_is_refused(model):
    segmenter = build(model).eval()
    with pytest.raises(ValueError, match=r"64 × 80 px, wanted multiples of 32: read them"):
        segmenter(images(width=80))


@every_model
def test_other_bands_than_those_of_the_statistics_are_refused(model):
    with pytest.raises(ValueError, match=r"images of 3 band\(s\), but the model is of 1"):
        build(model, bands=1)(images(3))


@every_model
def test_one_image_is_scored_but_not_learnt_from(model):
    segmenter = build(model)
    with pytest.raises(ValueError, match=r"training batch of one image.*train\.batch_size"):
        segmenter(images(batch=1))
    with torch.inference_mode():
        assert segmenter.eval()(images(batch=1)).shape == (1, 4, 64, 64)


@every_model
def test_the_same_seed_gives_the_same_first_weights_and_another_seed_others(model):
    torch.manual_seed(1)
    first = build(model, seed=5)
    torch.manual_seed(2)
    assert are_equal(build(model, seed=5), first)
    assert not are_equal(build(model, seed=6), first)


@pytest.mark.slow
@every_model
def test_a_tiles_prediction_does_not_depend_on_its_batch(model):
    segmenter = build(model).eval()
    batch = images(batch=3)
    with torch.inference_mode():
        together = segmenter(batch)
        alone = torch.cat([segmenter(one[None]) for one in batch])
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4)


@every_model
def test_building_leaves_the_global_generator_alone(model):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    build(model)
    assert torch.equal(torch.rand(3), wanted)


def test_images_are_normalised_by_the_statistics_of_their_band():
    segmenter = Segmenter(torch.nn.Identity(), MEAN[:4], STD[:4])
    batch = images(4)
    for band in range(4):
        wanted = (batch[:, band].double() - MEAN[band]) / STD[band]
        torch.testing.assert_close(segmenter(batch)[:, band].double(), wanted)


def test_the_statistics_travel_with_the_weights():
    one = build()
    statistics = BandStatistics((1, 2, 3), (4, 5, 6))
    other = build_model(network_settings(width=0.25), statistics, 4, seed=2)
    other.load_state_dict(one.state_dict())
    assert other.mean.flatten().tolist() == list(MEAN[:3])
    assert other.std.flatten().tolist() == list(STD[:3])


# The width


@pytest.mark.slow
@every_model
def test_a_smaller_width_leaves_the_encoder_and_makes_the_rest_smaller(model):
    def count(width):
        network = build(model, width=width).network
        encoder = (
            sum(weights.numel() for weights in network.encoder.parameters())
            if (model in ON_ENCODERS)
            else 0
        )
        return encoder, sum(weights.numel() for weights in network.parameters()) - encoder

    sizes = [count(width) for width in (0.25, 0.5, 0.75)]
    assert len({encoder for encoder, _ in sizes}) == 1
    rest = [others for _, others in sizes]
    assert rest == sorted(set(rest))


def test_half_the_width_halves_the_channels_of_each_level():
    blocks = build("unet", width=0.5).network.decoder.blocks
    assert [block.conv2[0].out_channels for block in blocks] == [128, 64, 32, 16, 8]


@pytest.mark.parametrize("width", [0.0, -0.25, 0.3, 0.125, float("nan"), float("inf")])
def test_a_width_that_is_no_number_of_quarters_is_refused(width):
    with pytest.raises(ValueError, match=r"train\.width: got .*, wanted a multiple of 0\.25"):
        build(width=width)


# From scratch


def count_twice_convolved(in_channels, out_channels):
    """Two convolutions of 3 × 3 without bias, each with two weights a channel to normalise by."""
    return 9 * (in_channels + out_channels) * out_channels + 4 * out_channels


def count_upsampled(in_channels, out_channels):
    return 4 * in_channels * out_channels + out_channels


def test_unet_from_scratch_has_the_weights_that_its_drawing_has():
    down = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    up = [(1024, 512), (512, 256), (256, 128), (128, 64)]
    wanted = sum(count_twice_convolved(*pair) for pair in [*down, *up])
    wanted += sum(count_upsampled(*pair) for pair in up)
    wanted += 64 * 4 + 4
    network = build("unet_scratch", width=1.0).network
    assert sum(weights.numel() for weights in network.parameters()) == wanted == 31_037_828


def test_unetplusplus_from_scratch_has_the_weights_that_its_drawing_has():
    down = [(3, 32), (32, 64), (64, 128), (128, 256), (256, 512)]
    # By column j: the node of each level i sees j nodes of its level and one from below.
    nested = [
        (32, [2, 3, 4, 5]),
        (64, [2, 3, 4]),
        (128, [2, 3]),
        (256, [2]),
    ]
    wanted = sum(count_twice_convolved(*pair) for pair in down) + 32 * 4 + 4
    for width, inputs in nested:
        for count in inputs:
            wanted += count_twice_convolved(count * width, width) + count_upsampled(
                2 * width, width
            )
    network = build("unetplusplus_scratch", width=1.0).network
    assert sum(weights.numel() for weights in network.parameters()) == wanted == 9_045_924


@every_model_from_scratch
def test_a_model_from_scratch_keeps_detail_past_its_depths(model):
    """With nothing coming up from below, skip connections alone still tell pixels apart."""
    network = build(model).network.eval()
    for layer in network.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    image = torch.zeros(1, 3, 64, 64)
    image[..., 20, 30] = 1
    with torch.inference_mode():
        difference = (network(image) - network(torch.zeros_like(image))).abs().sum(dim=(0, 1))
    changed = difference.nonzero()
    assert len(changed) > 1
    assert (changed - torch.tensor([20, 30])).abs().max() <= 12  # 3 × 3 kernels of level 0 alone


@every_model_from_scratch
@pytest.mark.parametrize(("encoder", "weights"), [("resnet18", "none"), ("none", "imagenet")])
def test_a_model_from_scratch_takes_no_encoder_and_no_weights(model, encoder, weights):
    with pytest.raises(ValueError, match=rf"{model}' has no encoder: .*wanted `none` for both"):
        build(model, encoder, weights=weights)


@every_model_on_an_encoder
def test_a_model_on_an_encoder_needs_one(model):
    example = MODELS[model].examples[0]
    with pytest.raises(ValueError, match=rf"'{model}' needs one, got 'none': try {example}"):
        build(model, "none")


# Encoders of timm and others


@pytest.mark.parametrize(
    "model", ["unet", *(pytest.param(one, marks=pytest.mark.slow) for one in ("fpn", "segformer"))]
)
@pytest.mark.parametrize(
    "encoder", ["mit_b0", "tu-hrnet_w18_small", "tu-convnext_atto", "tu-mobilenetv3_small_050"]
)
def test_encoders_of_other_makes_take_any_bands_and_every_weight_is_taught(model, encoder):
    segmenter = build(model, encoder, bands=4)
    logits = segmenter(images(4))
    assert logits.shape == (2, 4, 64, 64)
    assert_teaches_every_weight(segmenter, logits)


@pytest.mark.parametrize(
    ("encoder", "layout"),
    [
        ("tu-mobileone_s0", torch.contiguous_format),
        ("mobileone_s0", torch.contiguous_format),
        ("tu-regnetx_002", torch.channels_last),
        ("resnet18", torch.channels_last),
    ],
)
def test_weights_lie_by_pixel_unless_torch_would_write_beyond_its_memory(encoder, layout):
    segmenter = build("unet", encoder)
    assert segmenter.layout == layout
    kernels = [one for one in segmenter.parameters() if one.dim() == 4 and one.shape[2] > 1]
    assert all(one.is_contiguous(memory_format=layout) for one in kernels)


# Several processes


@pytest.mark.parametrize(
    "encoder",
    [
        pytest.param("tu-regnetx_002", marks=pytest.mark.slow),
        pytest.param("tu-efficientnet_b0", marks=pytest.mark.slow),
        "tu-mobilenetv3_small_050",
        "resnet18",
    ],
)
def test_a_model_that_normalises_with_other_processes_is_the_same_model(encoder):
    segmenter = build("unet", encoder).eval()
    names = list(segmenter.state_dict())
    with torch.inference_mode():
        wanted = segmenter(images(3))
    prepare_processes(segmenter, on_gpus=True)
    layers = [one for one in segmenter.modules() if isinstance(one, nn.SyncBatchNorm)]
    assert len(layers) > 10
    assert not any(isinstance(one, nn.BatchNorm2d) for one in segmenter.modules())
    with torch.inference_mode():
        assert torch.equal(segmenter(images(3)), wanted)
    assert list(segmenter.state_dict()) == names


def test_weights_that_take_no_part_are_not_waited_for():
    segmenter = build("unet", "efficientnet-b0")
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    prepare_processes(segmenter, on_gpus=False)
    assert segmenter.training
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())
    segmenter(images(3)).sum().backward()
    idle = {name for name, one in segmenter.named_parameters() if one.grad is None}
    assert {name for name, one in segmenter.named_parameters() if not one.requires_grad} == idle
    assert 0 < len(idle) < 5


# Names that are wrong


def test_an_unknown_model_is_refused_with_those_there_are_and_a_near_one():
    with pytest.raises(ValueError, match=r"got 'u-net', wanted one of unet, .*fpn.*mean 'unet'"):
        build("u-net", "resnet18")
    with pytest.raises(
        ValueError, match=r"got 'zzz', wanted one of .*unetplusplus_scratch, .*classifier_mean$"
    ):
        build("zzz", "resnet18")


@pytest.mark.parametrize(
    ("encoder", "near"),
    [
        ("resnet81", "resnet18,"),
        ("zzz", "resnet18, resnet34, mobilenet_v2"),
        ("hrnet_w18", r"tu-hrnet_w18\?"),
        ("tu-hrnet_w19", "tu-hrnet_w18,"),
        ("tu-resnet18.a4_in1k", r"tu-resnet18\.a[123]_in1k"),
        ("tu-zzz", "tu-resnet18, tu-hrnet_w18"),
        ("tu-hf-hub:timm/resnet18", "tu-resnet18"),
    ],
)
def test_an_unknown_encoder_is_refused_with_a_near_one_and_without_asking_the_network(
    encoder, near
):
    with pytest.raises(ValueError, match=rf"'{encoder}' is unknown; did you mean .*{near}"):
        build(encoder=encoder)


@pytest.mark.parametrize(
    ("model", "encoder"),
    [
        pytest.param("deeplabv3plus", "vgg11", marks=pytest.mark.slow),
        ("unetplusplus", "mit_b0"),
        pytest.param("deeplabv3", "tu-hrnet_w18_small", marks=pytest.mark.slow),
        ("unet", "tu-test_vit"),
        pytest.param("fpn", "tu-maxvit_tiny_tf_224", marks=pytest.mark.slow),
        pytest.param("unet", "tu-swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
    ],
)
def test_an_encoder_that_does_not_fit_the_model_is_refused_with_others_to_try(model, encoder):
    with pytest.raises(
        ValueError, match=rf"'{encoder}' does not fit train\.model '{model}' \(.*Try resnet18"
    ) as caught:
        build(model, encoder)
    assert "\n" not in str(caught.value)


# Weights of the encoder from a file


@pytest.fixture(scope="module")
def encoder_state():
    """Weights of a resnet18 encoder, of another seed than those that tests build."""
    state = build(encoder="resnet18", seed=77).network.encoder.state_dict()
    return {name: value.contiguous() for name, value in state.items()}


@pytest.fixture(scope="module")
def weights_files(encoder_state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(encoder_state, folder / "resnet18.pt")
    save_file(encoder_state, folder / "resnet18.safetensors")
    return folder


endings = pytest.mark.parametrize("ending", ["pt", "safetensors"])


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pt", pytest.param("safetensors", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "model", [name for name in ON_ENCODERS if not MODELS[name].needs_vision_transformer]
)
def test_the_encoder_gets_the_weights_of_the_file_and_the_rest_the_seeds(
    model, ending, weights_files, encoder_state
):
    segmenter = build(model, "resnet18", weights=str(weights_files / f"resnet18.{ending}"))
    for name, value in segmenter.network.encoder.state_dict().items():
        assert torch.equal(value, encoder_state[name]), name
    plain = build(model, "resnet18")
    for part in ("decoder", "segmentation_head"):
        assert are_equal(getattr(segmenter.network, part), getattr(plain.network, part))


def test_kernels_of_three_bands_are_summed_for_one_and_take_turns_for_more():
    kernels = torch.tensor([[3.0, 6.0, 12.0], [30.0, 60.0, 120.0]])[..., None, None]
    wanted = {
        1: [[21, 21 * 10]],
        2: [[4.5, 45], [9, 90]],
        4: [[2.25, 22.5], [4.5, 45], [9, 90], [2.25, 22.5]],
        6: [[1.5, 15], [3, 30], [6, 60], [1.5, 15], [3, 30], [6, 60]],
    }
    for bands, columns in wanted.items():
        assert torch.equal(
            adapt_kernels(kernels, bands), torch.tensor(columns).float().T[..., None, None]
        )


FIRST_KERNELS = {
    "resnet18": {"conv1.weight"},
    "mit_b0": {"patch_embed1.proj.weight"},
    "mobileone_s0": {"stage0.rbr_conv.0.conv.weight", "stage0.rbr_scale.conv.weight"},
    "tu-hrnet_w18_small": {"model.conv1.weight"},
    "tu-convnext_atto": {"model.stem_0.weight"},
}


@pytest.mark.parametrize(
    ("encoder", "bands"),
    [
        pytest.param(encoder, bands, marks=[] if encoder == "resnet18" else pytest.mark.slow)
        for encoder in FIRST_KERNELS
        for bands in (1, 4)
    ],
)
def test_only_the_first_kernels_are_adapted_to_other_than_three_bands(bands, encoder, tmp_path):
    three = build(encoder=encoder, seed=77).network.encoder.state_dict()
    torch.save(three, tmp_path / "weights.pt")
    path = str(tmp_path / "weights.pt")
    adapted = build(encoder=encoder, weights=path, bands=bands).network.encoder.state_dict()
    changed = {name for name, value in adapted.items() if not torch.equal(value, three[name])}
    assert changed == FIRST_KERNELS[encoder]
    for name in changed:
        kernels = three[name]
        if bands == 1:  # a grey image looks as it did in all three
            torch.testing.assert_close(adapted[name].sum(dim=1), kernels.sum(dim=1))
        else:
            torch.testing.assert_close(adapted[name], kernels[:, [0, 1, 2, 0]] * 0.75)


def test_weights_of_as_many_bands_are_taken_as_they_are(tmp_path):
    four = build(encoder="resnet18", bands=4, seed=77).network.encoder.state_dict()
    torch.save(four, tmp_path / "four.pt")
    encoder = build(encoder="resnet18", weights=str(tmp_path / "four.pt"), bands=4).network.encoder
    assert torch.equal(encoder.conv1.weight, four["conv1.weight"])


@pytest.mark.parametrize("ending", ["safetensors", pytest.param("pt", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        pytest.param("hrnet_w18_small", marks=pytest.mark.slow),
        "convnext_atto",
        "mobilenetv3_small_050",
    ],
)
def test_timms_whole_network_is_taken_as_weights_of_its_encoder(name, ending, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        whole = timm.create_model(name).eval()
    path = tmp_path / f"model.{ending}"
    save = torch.save if ending == "pt" else save_file
    save(whole.state_dict(), path)
    encoder = build(encoder=f"tu-{name}", weights=str(path)).network.encoder.eval()
    image = images(batch=1) / 255
    with torch.inference_mode():
        wanted = whole.forward_intermediates(image, intermediates_only=True)[-1]
        torch.testing.assert_close(encoder(image)[-1], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("ending", ["pt", pytest.param("safetensors", marks=pytest.mark.slow)])
def test_timms_weights_of_a_deeper_network_are_refused_though_a_part_would_fit(ending, tmp_path):
    path = tmp_path / f"resnet34.{ending}"
    save = torch.save if ending == "pt" else save_file
    save(timm.create_model("resnet34").state_dict(), path)
    with pytest.raises(ValueError, match=r"does not fit encoder 'tu-resnet18'"):
        build(encoder="tu-resnet18", weights=str(path))


def test_a_classifier_is_taken_without_its_head(encoder_state, tmp_path):
    head = {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    torch.save(encoder_state | head, tmp_path / "classifier.pth")
    segmenter = build(encoder="resnet18", weights=str(tmp_path / "classifier.pth"))
    assert torch.equal(segmenter.network.encoder.conv1.weight, encoder_state["conv1.weight"])


def test_a_missing_weights_file_is_named():
    said = r"train\.weights_file: nowhere/resnet18\.pt does not exist"
    with pytest.raises(FileNotFoundError, match=said):
        build(encoder="resnet18", weights="nowhere/resnet18.pt")


def test_a_folder_and_an_empty_file_are_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder, wanted a weights file"):
        build(encoder="resnet18", weights=str(tmp_path))
    (tmp_path / "empty.pt").touch()
    with pytest.raises(ValueError, match=r"empty\.pt cannot be read as weights \(\w+"):
        build(encoder="resnet18", weights=str(tmp_path / "empty.pt"))


def test_a_damaged_package_is_not_blamed_on_the_weights_file(tmp_path, monkeypatch):
    (tmp_path / "lite0.pth").write_bytes(b"damaged")
    monkeypatch.setattr(
        "pointcover.networks.weights.find_packaged_weights", lambda _: tmp_path / "lite0.pth"
    )
    with pytest.raises(ValueError, match=r"^train\.weights imagenet: .*lite0\.pth cannot be read"):
        build(encoder="tu-tf_efficientnet_lite0", weights="imagenet")


@endings
@pytest.mark.parametrize("encoder", ["resnet34", "mobilenet_v2"])
def test_weights_of_another_encoder_are_refused(encoder, ending, weights_files):
    path = weights_files / f"resnet18.{ending}"
    with pytest.raises(ValueError, match=rf"{path} does not fit encoder '{encoder}'.*change") as no:
        build(encoder=encoder, weights=str(path))
    assert "\n" not in str(no.value)


@endings
@pytest.mark.parametrize("fraction", [0, 0.5, pytest.param(0.001, marks=pytest.mark.slow), 0.999])
def test_a_weights_file_that_is_cut_short_is_refused(ending, fraction, weights_files, tmp_path):
    whole = (weights_files / f"resnet18.{ending}").read_bytes()
    path = tmp_path / f"short.{ending}"
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(ValueError, match=rf"{path} cannot be read as weights.*wanted a state dict"):
        build(encoder="resnet18", weights=str(path))


@pytest.mark.parametrize(
    "content",
    [torch.zeros(3), {"state_dict": {"conv1.weight": torch.zeros(3)}}, {}, [1, 2], {"epoch": 3}],
    ids=["a tensor", "a nested dict", "nothing", "a list", "numbers"],
)
def test_a_file_that_holds_something_else_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="does not fit encoder 'resnet18'"):
        build(encoder="resnet18", weights=str(tmp_path / "other.pt"))


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_in_a_weights_file_is_not_executed(encoder_state, tmp_path):
    torch.save({**encoder_state, "extra": Bomb(tmp_path / "boom")}, tmp_path / "bomb.pt")
    with pytest.raises(ValueError, match=r"bomb\.pt cannot be read as weights"):
        build(encoder="resnet18", weights=str(tmp_path / "bomb.pt"))
    assert not (tmp_path / "boom").exists()


# Weights of the encoder from the Hub


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A machine that reaches nothing and has fetched nothing yet."""

    def refuse(*_args, **_kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.filterwarnings("error:For 'tu-'")
@pytest.mark.parametrize(
    ("encoder", "repository"),
    [
        ("resnet18", "smp-hub/resnet18.imagenet"),
        ("tu-resnet18", "timm/resnet18.a1_in1k"),
        ("tu-test_vit", "timm/test_vit.r160_in1k"),
        ("tu-test_convnext.r160_in1k", "timm/test_convnext.r160_in1k"),
    ],
)
def test_without_network_imagenet_weights_are_refused_soon_with_what_to_do(
    no_network, encoder, repository
):
    model = "dpt" if "vit" in encoder else "unet"
    started_s = time.perf_counter()
    with pytest.raises(ConnectionError) as caught:
        build(model, encoder, weights="imagenet")
    assert f"`imagenet` weights of encoder '{encoder}' could not be fetched" in str(caught.value)
    assert str(caught.value).endswith(
        f"; download model.safetensors of https://huggingface.co/{repository} on another machine "
        f"and set train.weights_file to its path, or train.weights to `none` (random weights)"
    )
    assert time.perf_counter() - started_s < 10  # huggingface_hub alone: 25 s a file
    assert constants.HF_HUB_OFFLINE is False


def test_without_network_imagenet_weights_that_were_fetched_before_are_used(
    no_network, encoder_state, tmp_path
):
    # The cache of huggingface_hub as its documentation draws it.
    revision = "3f2325ff978283d47aa6a1d6878ca20565622683"
    snapshot = tmp_path / "models--smp-hub--resnet18.imagenet" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    save_file(encoder_state, snapshot / "model.safetensors")
    encoder = build(encoder="resnet18", seed=3).network.encoder
    load_encoder_weights(encoder, "resnet18", "imagenet")
    assert torch.equal(encoder.conv1.weight, encoder_state["conv1.weight"])


@pytest.mark.parametrize(
    ("model", "name"), [("dpt", "test_vit.r160_in1k"), ("unet", "test_convnext.r160_in1k")]
)
def test_without_network_weights_of_timm_that_were_fetched_before_are_used(
    no_network, model, name, tmp_path
):
    folder = tmp_path / f"models--timm--{name}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    torch.manual_seed(5)
    whole = timm.create_model(name.partition(".")[0])
    save_file(whole.state_dict(), snapshot / "model.safetensors")
    encoder = build(model, f"tu-{name}", weights="imagenet").network.encoder
    wanted = {name.replace(".", "_"): value for name, value in whole.state_dict().items()}
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(value, wanted[name.replace(".", "_")]), name


@pytest.mark.parametrize("encoder", ["dpn107", "tu-convnext_atto_rms", "tu-resnet50t"])
def test_an_encoder_without_imagenet_weights_is_refused_as_such(no_network, encoder):
    with pytest.raises(ValueError, match=rf"'{encoder}' has no `imagenet` weights.*`none`"):
        load_encoder_weights(torch.nn.Identity(), encoder, "imagenet")
