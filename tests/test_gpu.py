"""On a GPU: the same learning as on a CPU, to the same bits each time, and no step waits for it."""

import pytest
import torch

from pointcover.labels import IGNORE_INDEX
from pointcover.networks.build import BandStatistics, build_model
from pointcover.prediction import predict as inference
from pointcover.runtime.devices import make_fabric
from pointcover.training.crops import EpochBatches
from pointcover.training.fit import Problem, fit
from pointcover.training.loss_fractions import needs_point_labels
from pointcover.training.losses.partial import PartialLoss
from pointcover.training.results import Callbacks
from pointcover.training.step import Learner
from pointcover.training.totals import EpochSums
from tests.tile_sets import CLASSES
from tests.train_settings import network_settings, train_settings
from tests.training.test_fit import drawn_loader, easy_samples, have_equal_weights, timeless

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
    pytest.mark.usefixtures("one_deterministic_thread"),
]


def network():
    statistics = BandStatistics((100.0,) * 3, (60.0,) * 3)
    return build_model(network_settings("unet", "resnet18", 0.25), statistics, 2, seed=1)


def settings_of(epochs=3, **others):
    return train_settings(epochs=epochs, ema_decay=0.9, schedule="cosine", **others)


def fit_on(device, precision="fp32", saved=None, save=None, loss=None, **settings):
    results = []
    images, masks = easy_samples(8)
    val = torch.utils.data.TensorDataset(*easy_samples(2, seed=9))
    problem = Problem(
        network(),
        drawn_loader(images, masks, batch_size=4),
        torch.utils.data.DataLoader(val, 2),
        loss or PartialLoss(),
        CLASSES.names,
    )
    callbacks = Callbacks(results.append, save)
    fabric = make_fabric(device, precision)
    fitted = fit(fabric, problem, settings_of(**settings), callbacks, saved)
    return results, fitted


@pytest.mark.parametrize(
    "settings",
    [{}, {"clip_norm": 1.0}, {"crf": {"weight": 0.1}}, {"propagated_loss_fraction": 0.5}],
    ids=["plain", "clipped", "crf", "propagated"],
)
@pytest.mark.parametrize("loss", [PartialLoss(), PartialLoss(1.0, (1.0, 2.0), 0.1)])
def test_no_step_waits_for_the_device(settings, loss):
    fabric = make_fabric("cuda", "auto")
    images, masks = easy_samples(4)
    learner = Learner.prepare(
        fabric, network(), loss, settings_of(**settings), EpochBatches(4, 4, 0)
    )
    learner.network.train()
    clicks = torch.where(torch.rand(masks.shape) < 0.5, masks, IGNORE_INDEX)
    batch = [part.pin_memory() for part in (images, masks, clicks)]
    batch = tuple(batch if needs_point_labels(learner.settings) else batch[:2])
    sums = EpochSums(fabric.device)
    for _ in range(2):
        learner.step([batch], 2, sums)  # the first ones prepare
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.step([batch], 3, sums)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_gpu_learns_as_a_cpu_does():
    on_cpu, _ = fit_on("cpu")
    on_gpu, _ = fit_on("cuda")
    # Not to the bit: sums are in another order, and convolutions in TF32.
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=0.05)
        assert other.val_miou == pytest.approx(one.val_miou, abs=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_params_give_the_same_bits(precision):
    (first, one), (second, other) = (fit_on("cuda", precision) for _ in range(2))
    assert timeless(first) == timeless(second)
    assert have_equal_weights(one, other)


def test_a_training_that_goes_on_ends_as_one_that_was_never_interrupted(tmp_path):
    def save(epoch, state):
        torch.save(state, tmp_path / f"{epoch}.pt")

    whole, one = fit_on("cuda", save=save)
    saved = torch.load(tmp_path / "1.pt", map_location="cpu", weights_only=True)
    rest, other = fit_on("cuda", saved=saved)
    assert timeless(whole) == timeless(rest)
    assert have_equal_weights(one, other)


def test_a_gpu_predicts_as_a_cpu_does():
    _, fitted = fit_on("cpu")
    images, masks = easy_samples(4, seed=5)
    tiles = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, masks), 2)
    scores = []
    for device in ("cpu", "cuda"):
        model = network()
        model.load_state_dict(fitted.weights)
        found = inference.predict(
            make_fabric(device, "fp32"), inference.Predictor([model], True), tiles
        )
        scores.append(torch.cat([predicted.cpu() for _, _, predicted, _ in found]))
    assert (scores[0] == scores[1]).float().mean() > 0.995
