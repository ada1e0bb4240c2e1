"""Every network keeps the contract of a segmenter, and encoder weights come whole or not at all."""

import os
import socket
import time

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from pointcover.models import MODELS, Segmenter, build_model
from pointcover.models.weights import load_encoder_weights

every_model = pytest.mark.parametrize("model", MODELS)

MEAN, STD = (90.0, 100.0, 110.0, 120.0), (40.0, 30.0, 20.0, 10.0)


def build(model="unet", encoder="mobilenet_v2", *, weights="none", bands=3, classes=4, seed=1):
    return build_model(
        model, encoder, weights=weights, bands=bands, classes=classes, mean=MEAN[:bands],
        std=STD[:bands], seed=seed,
    )  # fmt: skip


def images(bands=3, batch=2, size=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, bands, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def are_equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# What every network promises


@every_model
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_raw_tiles_become_finite_scores_of_every_pixel_that_teach_every_weight(model, bands):
    segmenter = build(model, bands=bands)
    logits = segmenter(images(bands))
    assert logits.shape == (2, 4, 64, 64)
    assert torch.isfinite(logits).all()
    logits.square().mean().backward()
    gradients = {name: weights.grad for name, weights in segmenter.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    first = next(iter(gradients.values()))
    assert first.shape[1] == bands
    assert torch.count_nonzero(first) > 0


@every_model
def test_the_same_seed_gives_the_same_first_weights_and_another_seed_others(model):
    torch.manual_seed(1)
    first = build(model, seed=5)
    torch.manual_seed(2)
    assert are_equal(build(model, seed=5), first)
    assert not are_equal(build(model, seed=6), first)


@every_model
def test_a_tiles_prediction_does_not_depend_on_its_batch(model):
    segmenter = build(model).eval()
    batch = images(batch=3)
    with torch.inference_mode():
        together = segmenter(batch)
        alone = torch.cat([segmenter(one[None]) for one in batch])
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    build()
    assert torch.equal(torch.rand(3), wanted)


def test_images_are_normalised_by_the_statistics_of_their_band():
    segmenter = Segmenter(torch.nn.Identity(), MEAN, STD)
    batch = images(4)
    for band in range(4):
        wanted = (batch[:, band].double() - MEAN[band]) / STD[band]
        torch.testing.assert_close(segmenter(batch)[:, band].double(), wanted)


def test_the_statistics_travel_with_the_weights():
    one, other = build(), build_model(
        "unet", "mobilenet_v2", weights="none", bands=3, classes=4, mean=(1, 2, 3), std=(4, 5, 6),
        seed=2,
    )  # fmt: skip
    other.load_state_dict(one.state_dict())
    assert other.mean.flatten().tolist() == list(MEAN[:3])
    assert other.std.flatten().tolist() == list(STD[:3])


def test_an_unknown_model_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"train\.model: got 'u-net', wanted one of unet, .*fpn"):
        build("u-net")


def test_an_unknown_encoder_is_refused_with_a_near_one():
    with pytest.raises(ValueError, match=r"'resnet81' is unknown; did you mean .*resnet18"):
        build(encoder="resnet81")
    with pytest.raises(ValueError, match=r"'zzz' is unknown; did you mean resnet18"):
        build(encoder="zzz")


def test_an_unknown_timm_encoder_is_refused_with_others_to_try():
    with pytest.raises(ValueError, match=r"'tu-nothing'.*Try resnet18"):
        build(encoder="tu-nothing")


def test_an_encoder_that_does_not_fit_the_model_is_refused_with_others_to_try():
    with pytest.raises(ValueError, match=r"'vgg11' does not fit train\.model 'deeplabv3plus'.*Try"):
        build("deeplabv3plus", "vgg11")


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


@endings
@every_model
def test_the_encoder_gets_the_weights_of_the_file_and_the_rest_the_seeds(
    model, ending, weights_files, encoder_state
):
    segmenter = build(model, "resnet18", weights=str(weights_files / f"resnet18.{ending}"))
    for name, value in segmenter.network.encoder.state_dict().items():
        assert torch.equal(value, encoder_state[name]), name
    plain = build(model, "resnet18")
    for part in ("decoder", "segmentation_head"):
        assert are_equal(getattr(segmenter.network, part), getattr(plain.network, part))


@pytest.mark.parametrize("bands", [1, 4])
def test_only_the_first_convolution_is_adapted_to_other_than_three_bands(
    bands, weights_files, encoder_state
):
    path = weights_files / "resnet18.pt"
    encoder = build(encoder="resnet18", weights=str(path), bands=bands).network.encoder
    changed = {
        name
        for name, value in encoder.state_dict().items()
        if not torch.equal(value, encoder_state[name])
    }
    assert changed == {"conv1.weight"}
    # A grey image in all bands, whatever their number, must look the same to the network.
    three, other = (weights.sum(dim=1) for weights in (encoder_state["conv1.weight"],
                                                       encoder.conv1.weight.detach()))  # fmt: skip
    if bands == 1:
        torch.testing.assert_close(other, three)
    else:
        wanted = encoder_state["conv1.weight"][:, [0, 1, 2, 0]] * (3 / 4)
        torch.testing.assert_close(encoder.conv1.weight.detach(), wanted)


def test_a_classifier_is_taken_without_its_head(encoder_state, tmp_path):
    head = {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    torch.save(encoder_state | head, tmp_path / "classifier.pth")
    segmenter = build(encoder="resnet18", weights=str(tmp_path / "classifier.pth"))
    assert torch.equal(segmenter.network.encoder.conv1.weight, encoder_state["conv1.weight"])


def test_a_missing_weights_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere/resnet18\.pt does not exist.*`none`"):
        build(encoder="resnet18", weights="nowhere/resnet18.pt")


@endings
@pytest.mark.parametrize("encoder", ["resnet34", "mobilenet_v2"])
def test_weights_of_another_encoder_are_refused(encoder, ending, weights_files):
    path = weights_files / f"resnet18.{ending}"
    with pytest.raises(ValueError, match=rf"{path} does not fit encoder '{encoder}'.*change") as no:
        build(encoder=encoder, weights=str(path))
    assert "\n" not in str(no.value)


@endings
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_weights_file_that_is_cut_short_is_refused(ending, share, weights_files, tmp_path):
    whole = (weights_files / f"resnet18.{ending}").read_bytes()
    path = tmp_path / f"short.{ending}"
    path.write_bytes(whole[: int(share * len(whole))])
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


@pytest.mark.filterwarnings("ignore:For 'tu-'")
@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_without_network_imagenet_weights_are_refused_soon_with_what_to_do(no_network, encoder):
    started_s = time.perf_counter()
    with pytest.raises(ConnectionError, match=r"`imagenet` weights .*`none` .*the path of a file"):
        build(encoder=encoder, weights="imagenet")
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


def test_an_encoder_without_imagenet_weights_is_refused_as_such(no_network):
    with pytest.raises(ValueError, match=r"'dpn107' has no `imagenet` weights.*`none`"):
        load_encoder_weights(torch.nn.Identity(), "dpn107", "imagenet")
