"""Fitting learns, repeats itself to the last bit, keeps an epoch, stops where it breaks."""

import copy
import logging
import math
import re
import time

import psutil
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.confusion import scores
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.segmenter import Segmenter
from pointcover.runtime.devices import make_fabric
from pointcover.tileset.dataset import TileDataset, tile_loader
from pointcover.training import fit as training
from pointcover.training.crops import EpochBatches, train_loader
from pointcover.training.ema import EmaWeights
from pointcover.training.fit import Problem, fit, validate
from pointcover.training.losses.partial import PartialLoss
from pointcover.training.results import Callbacks
from pointcover.training.schedules import ScheduleStep, cosine
from pointcover.training.semi_supervised import consistency
from pointcover.training.semi_supervised.consistency import frozen_statistics
from tests.tile_sets import CLASSES, write_easy_tiles
from tests.train_settings import network_settings, train_settings

pytestmark = pytest.mark.usefixtures("one_deterministic_thread")

MEAN, STD = (100.0,) * 3, (60.0,) * 3
partial_cross_entropy = PartialLoss()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("easy")


@pytest.fixture(scope="module")
def train_tiles(folder):
    return write_easy_tiles(folder, 6)


@pytest.fixture(scope="module")
def val_tiles(folder):
    return write_easy_tiles(folder, 3, split="val")


class Drawn(torch.utils.data.Dataset):
    """Samples held in memory, which an EpochBatches draws from."""

    def __init__(self, *tensors):
        self.tensors = tensors

    def __getitem__(self, draw):
        return tuple(values[draw[1]] for values in self.tensors)


def drawn_loader(images, masks, batch_size=2, seed=0, clicks=()):
    batches = EpochBatches(len(images), batch_size, seed)
    return DataLoader(Drawn(images, masks, *clicks), batch_sampler=batches)


def easy_samples(count, seed=0):
    """Images (count, 3, 32, 32) whose class 1 is bright, every 16th pixel labelled."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randint(0, 2, (count, 32, 32), generator=generator, dtype=torch.uint8)
    images = (60 + 120 * dense)[:, None].expand(-1, 3, -1, -1).contiguous()
    masks = torch.full_like(dense, IGNORE_INDEX)
    masks[:, ::4, ::4] = dense[:, ::4, ::4]
    return images, masks


def pointwise(seed=0):
    """The smallest segmenter: one weight a band and class."""
    torch.manual_seed(seed)
    return Segmenter(nn.Conv2d(3, 2, 1), MEAN, STD)


def fit_drawn(
    model,
    train,
    val=None,
    *,
    epochs=3,
    lr=0.05,
    weight_decay=0.0,
    ema_decay=0.0,
    report=None,
    keep="best",
    saved=None,
    save=None,
    loss=partial_cross_entropy,
    precision="fp32",
    **settings,
):
    """Fit on samples in memory, on the CPU."""
    images, masks = val or easy_samples(2, seed=9)
    problem = Problem(
        model, train, DataLoader(TensorDataset(images, masks), 2), loss, CLASSES.names
    )
    settings = train_settings(
        **{
            "epochs": epochs,
            "lr": lr,
            "weight_decay": weight_decay,
            "ema_decay": ema_decay,
            "keep": keep,
            "schedule": "cosine",
        }
        | settings
    )
    callbacks = Callbacks(report or (lambda _result: None), save)
    return fit(make_fabric("cpu", precision), problem, settings, callbacks, saved)


def fit_tiles(
    folder,
    train_tiles,
    val_tiles,
    *,
    model="unet",
    seed=1,
    epochs=3,
    precision="fp32",
    saved=None,
    save=None,
):
    """Fit a real network on tiles on disk, as the stage does; give all epochs and the best."""
    train, val = (
        TileDataset(tiles, folder / "images", folder / "masks", 64)
        for tiles in (train_tiles, val_tiles)
    )
    statistics = BandStatistics(MEAN, STD)
    segmenter = build_model(network_settings(model), statistics, 2, seed=seed)
    settings = train_settings(
        epochs=epochs, ema_decay=0.9, schedule="cosine", crop_px=64, zoom=1.5, batch_size=2
    )
    crops = train_loader(train, settings, bands=3, workers=0, seed=seed)
    results = []
    problem = Problem(segmenter, crops, tile_loader(val, 2), partial_cross_entropy, CLASSES.names)
    callbacks = Callbacks(results.append, save)
    return results, fit(make_fabric("cpu", precision), problem, settings, callbacks, saved)


class Noted(Drawn):
    """The same, and a file for each epoch that a sample was read for."""

    def __init__(self, folder, *tensors):
        super().__init__(*tensors)
        self.folder = folder

    def __getitem__(self, draw):
        (self.folder / str(draw[0])).touch()
        return super().__getitem__(draw)


def timeless(results):
    """What of the epochs must repeat itself: all but how long they took."""
    times = {"images_per_s", "seconds", "waited_fraction", "peak_memory_mib"}
    return [{key: value for key, value in vars(one).items() if key not in times} for one in results]


def have_equal_weights(one, other):
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(one.weights[key], other.weights[key]) for key in one.weights
    )


def test_the_next_epoch_is_read_before_this_one_ends(tmp_path):
    crops = DataLoader(
        Noted(tmp_path, *easy_samples(8)), batch_sampler=EpochBatches(8, 2, 0), num_workers=1
    )
    read_ahead = []

    class Patient(nn.Conv2d):
        """Waits within an epoch's last step for what is read of the next."""

        def forward(self, values):
            self.steps = getattr(self, "steps", 0) + self.training
            if self.training and self.steps % 4 == 0:
                next_epoch = tmp_path / str(self.steps // 4 + 1)
                until_s = time.monotonic() + 60 * (self.steps < 12)
                while not (there := next_epoch.exists()) and time.monotonic() < until_s:
                    time.sleep(0.01)
                read_ahead.append(there)
            return super().forward(values)

    states = []

    def fit_noted(saved=None):
        return fit_drawn(
            Segmenter(Patient(3, 2, 1), MEAN, STD),
            crops,
            saved=saved,
            save=lambda _epoch, state: states.append(state),
        )

    fit_noted()
    assert read_ahead == [True, True, False]
    for epoch in range(1, 4):
        (tmp_path / str(epoch)).unlink()
    fit_noted(states[-1])  # there is nothing left to do
    assert not list(tmp_path.iterdir())


# Learning


@pytest.mark.slow
@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "bf16"])
def test_a_network_learns_to_tell_bright_from_dark(folder, train_tiles, val_tiles, precision):
    results, fitted = fit_tiles(folder, train_tiles, val_tiles, epochs=4, precision=precision)
    losses = [result.train_loss for result in results]
    assert losses[-1] < 0.5 * losses[0]
    assert all(value.dtype != torch.bfloat16 for value in fitted.weights.values())
    assert {"mean", "std"} < fitted.weights.keys()


def test_a_pointwise_classifier_finds_every_labelled_pixel_right():
    fitted = fit_drawn(pointwise(), drawn_loader(*easy_samples(8)), epochs=10, lr=0.1)
    assert fitted.kept.val_miou == 1
    assert fitted.kept.val_iou == {"dark": 1, "bright": 1}


def test_epochs_are_reported_in_order_with_what_they_saw():
    results = []
    fit_drawn(pointwise(), drawn_loader(*easy_samples(7)), report=results.append)
    assert [result.epoch for result in results] == [1, 2, 3]
    assert results[-1].lr == pytest.approx(0, abs=1e-9)
    for result in results:
        # Three batches of two; the one sample left over is not seen.
        assert result.images_per_s * result.seconds == pytest.approx(6)
        assert result.batches_without_labels == 0


def test_each_epoch_is_a_line_where_there_is_no_terminal(capsys):
    fit_drawn(pointwise(), drawn_loader(*easy_samples(8)))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"epoch {k} of 3" for k in (1, 2, 3)]
    number, left = r"\d\.\d{3}", r"\d+ (s|min) left"
    pattern = rf"epoch 2 of 3: loss {number}, val mIoU {number}, \d+ images/s, {left}"
    assert re.fullmatch(pattern, lines[1])


def test_the_loss_reported_is_that_of_the_masks_with_the_weights_of_the_step():
    # With a learning rate of nothing: the mean over batches of torch's own loss.
    model = pointwise()
    images, masks = easy_samples(4)
    with torch.no_grad():
        logits = model(images)
    wanted = nn.functional.cross_entropy(logits, masks.long(), ignore_index=IGNORE_INDEX)
    fitted = fit_drawn(model, drawn_loader(images, masks), epochs=1, lr=1e-30)
    assert fitted.kept.train_loss == pytest.approx(wanted.item(), rel=1e-5)


# Repeating


@pytest.mark.slow
@pytest.mark.parametrize("model", ["unet", pytest.param("fpn", marks=pytest.mark.slow)])
def test_the_same_seed_gives_the_same_weights_and_scores_whatever_torchs_generator_holds(
    folder, train_tiles, val_tiles, model
):
    """FPN has dropout, which draws from torch's global generator."""
    runs = []
    for state in (11, 22):
        torch.manual_seed(state)
        runs.append(fit_tiles(folder, train_tiles, val_tiles, model=model, epochs=2))
    (first, fitted), (second, again) = runs
    assert timeless(second) == timeless(first)
    assert have_equal_weights(again, fitted)


def test_another_seed_draws_other_batches_and_so_gives_other_weights():
    runs = [fit_drawn(pointwise(), drawn_loader(*easy_samples(8), seed=seed)) for seed in (1, 1, 2)]
    assert have_equal_weights(runs[0], runs[1])
    assert not have_equal_weights(runs[0], runs[2])


def test_dropout_differs_between_epochs_and_seeds():
    class Noted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.dropout, self.kept = nn.Conv2d(3, 2, 1), nn.Dropout(0.5), []

        def forward(self, values):
            if self.training:
                self.kept.append(self.dropout(torch.ones(64)))
            return self.layer(values)

    kept = []
    for seed in (0, 1):
        network = Noted()
        images, masks = easy_samples(4)
        fit_drawn(Segmenter(network, MEAN, STD), drawn_loader(images, masks, seed=seed), epochs=2)
        kept += network.kept
    assert len({tuple(one.tolist()) for one in kept}) == len(kept) == 8


# Unlabelled pixels, and labels that count unlike


def layered(seed=3):
    """A segmenter with all that could go on wrongly: batch normalisation and dropout."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)
    return Segmenter(nn.Sequential(*layers, nn.Conv2d(4, 2, 1)), MEAN, STD)


TERMS = {
    "consistency": {"consistency": {"weight": 1.0, "threshold": 0.55}},
    "crf": {"crf": {"weight": 0.5, "radius_px": 2}},
    "propagated_loss_fraction": {"propagated_loss_fraction": 0.2},
    "focal": {"loss": PartialLoss(gamma=2.0)},
    "class_weights": {"loss": PartialLoss(class_weights=(0.2, 3.0))},
    "label_smoothing": {"loss": PartialLoss(label_smoothing=0.2)},
    "all": {
        "loss": PartialLoss(gamma=1.0, class_weights=(0.2, 3.0), label_smoothing=0.1),
        "consistency": {"weight": 0.5, "threshold": 0.55},
        "crf": {"weight": 0.5, "radius_px": 2},
        "propagated_loss_fraction": 0.2,
        "accumulate": 2,
    },
}
every_term = pytest.mark.parametrize("term", TERMS)


def fit_term(settings, *, images=None, masks=None, clicked=0.3, epochs=3, model=None, **other):
    """Fit on samples in which a fraction of the labels was clicked; give all epochs and the end."""
    images, masks = easy_samples(9) if images is None else (images, masks)
    chosen = torch.rand(masks.shape, generator=torch.Generator().manual_seed(1)) < clicked
    clicks = torch.where(chosen, masks, IGNORE_INDEX)
    results = []
    fitted = fit_drawn(
        model or layered(),
        drawn_loader(images, masks, clicks=(clicks,)),
        epochs=epochs,
        ema_decay=0.5,
        report=results.append,
        keep="last",
        **settings,
        **other,
    )
    return results, fitted


@pytest.mark.parametrize("term", ["consistency", "crf"])
def test_pixels_without_data_teach_nothing(term):
    """As where a loss that looks at all pixels is asked of images without any data."""
    images, masks = easy_samples(8)
    images[:, :, :, 16:] = 0
    masks[:, :, 16:] = IGNORE_INDEX
    dark = torch.zeros_like(images)
    ways = TERMS[term]
    nothing = torch.full_like(masks, IGNORE_INDEX)
    nothing[0, 0, 0] = 0  # for an epoch to have a loss
    results, _ = fit_term(ways, images=dark, masks=nothing, clicked=1.0)
    named = "crf_loss" if term == "crf" else "consistency_fraction"
    assert {result.terms[named] for result in results if result.terms} == {0.0}
    results, _ = fit_term(ways, images=images, masks=masks)
    assert any(result.terms.get(named, 0) > 0 for result in results)


@every_term
def test_a_term_changes_what_is_learnt_and_the_same_way_each_time(term):
    plain, (results, fitted) = fit_term({})[1], fit_term(TERMS[term])
    again, repeated = fit_term(TERMS[term])
    assert not have_equal_weights(plain, fitted)
    assert have_equal_weights(repeated, fitted)
    assert timeless(again) == timeless(results)


def test_terms_of_weight_0_and_labels_that_count_alike_change_no_bit():
    nothing = {
        "consistency": {"weight": 0.0},
        "crf": {"weight": 0.0},
        "propagated_loss_fraction": None,
        "loss": PartialLoss(gamma=0.0, label_smoothing=0.0),
    }
    results, fitted = fit_term(nothing)
    plain = fit_drawn(
        layered(), drawn_loader(*easy_samples(9)), epochs=3, ema_decay=0.5, keep="last"
    )
    assert have_equal_weights(fitted, plain)
    assert all(result.terms == {} for result in results)


@every_term
def test_a_term_goes_on_bit_by_bit(tmp_path, term):
    def run(saved, save):
        torch.manual_seed(5 if saved else 99)  # what another process would find
        return fit_term(TERMS[term], epochs=4, saved=saved, save=save)

    (results, fitted), (again, resumed) = run(None, None), interrupted(run, tmp_path, after=2)
    assert timeless(again) == timeless(results)
    assert have_equal_weights(resumed, fitted)


@every_term
def test_batches_without_a_label_leave_everything_finite(term):
    images, masks = easy_samples(9)
    for some in (masks[:5], masks):
        some[:] = IGNORE_INDEX
        results, fitted = fit_term(TERMS[term], images=images, masks=masks, epochs=2)
        assert all(bool(torch.isfinite(value).all()) for value in fitted.weights.values())
        assert all(math.isfinite(result.train_loss) for result in results)
    assert results[0].train_loss == 0
    assert results[0].batches_without_labels > 0


@every_term
def test_a_term_is_finite_in_bf16(term):
    images, masks = easy_samples(4)
    fitted = fit_drawn(
        layered(),
        drawn_loader(images, masks, clicks=(masks,)),
        (images, masks),
        epochs=2,
        ema_decay=0.5,
        keep="last",
        precision="bf16",
        **TERMS[term],
    )
    assert all(math.isfinite(value) for value in fitted.kept.terms.values())
    assert all(bool(torch.isfinite(value).all()) for value in fitted.weights.values())


@pytest.mark.parametrize("term", ["consistency", "crf"])
def test_unlabelled_pixels_teach_where_nothing_is_labelled_and_after_the_warm_up_alone(term):
    images, masks = easy_samples(8)
    masks[:] = IGNORE_INDEX
    settings = TERMS[term] | {"optimiser": "sgd", "momentum": 0.0, "nesterov": False}
    results, fitted = fit_term(settings, images=images, masks=masks, epochs=2, model=pointwise())
    assert not torch.equal(fitted.weights["network.weight"], pointwise().network.weight)
    assert all(value >= 0 for result in results for value in result.terms.values())
    # One epoch of one step: that step is the warm-up's.
    results, fitted = fit_term(
        settings, images=images[:2], masks=masks[:2], epochs=1, model=pointwise()
    )
    assert results[0].terms == {}
    assert torch.equal(fitted.weights["network.weight"], pointwise().network.weight)


def test_the_share_that_the_teacher_is_sure_of_falls_as_the_threshold_rises():
    fractions = [
        fit_term({"consistency": {"weight": 1.0, "threshold": threshold}})[0][-1]
        for threshold in (0.51, 0.8, 1.0)
    ]
    fractions = [result.terms["consistency_fraction"] for result in fractions]
    assert 1 >= fractions[0] > fractions[1] >= fractions[2] >= 0
    assert fractions[0] > 0.9


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_batch_of_each_seed_is_strengthened_in_its_own_way(monkeypatch, accumulate):
    original, drawn = consistency.strengthen, []

    def noted(images, generator, strength):
        drawn.append((generator.initial_seed(), tuple(generator.get_state().tolist())))
        return original(images, generator, strength)

    monkeypatch.setattr(consistency, "strengthen", noted)
    settings = {"consistency": {"weight": 1.0}, "accumulate": accumulate}
    for seed in (0, 1, 0):
        train = drawn_loader(*easy_samples(8), seed=seed)
        fit_drawn(pointwise(), train, epochs=3, **settings)
    runs = [drawn[k : k + len(drawn) // 3] for k in range(0, len(drawn), len(drawn) // 3)]
    assert runs[0] == runs[2]
    # Of twelve batches the first two, a tenth and what follows up to a whole step, are warm-up.
    assert len(runs[0]) == 10
    assert len({*runs[0], *runs[1]}) == 20


def test_the_student_in_strong_colours_moves_no_running_statistic():
    """The statistics are those of a training in which the extra gradient is of weight nothing."""
    seen = {}
    for weight in (0.0, 1e-30):
        settings = {"consistency": {"weight": weight, "threshold": 0.51}}
        model = Segmenter(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)), MEAN, STD)
        nn.init.constant_(model.network[1].weight, 0.1)
        nn.init.constant_(model.network[1].bias, 0.0)
        fit_term(settings, model=model)
        seen[weight] = model.network[0].state_dict()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(seen[0.0][name], seen[1e-30][name]), name


def test_a_network_that_normalises_with_other_processes_can_be_a_student():
    """SyncBatchNorm refuses to run without its count of batches; it runs on GPUs alone."""
    model = nn.SyncBatchNorm(3)
    with frozen_statistics(model):
        assert model.momentum == 0
        assert model.num_batches_tracked is not None
        model.num_batches_tracked += 1
    assert model.momentum == 0.1
    assert model.num_batches_tracked == 0


def test_grown_labels_have_their_share_of_the_loss_however_many_they_are():
    images, masks = easy_samples(8)
    clicks = masks.clone()
    clicks[:, 16:] = IGNORE_INDEX
    wanted = fit_drawn(pointwise(), drawn_loader(images, clicks), keep="last")
    for fraction, alike in ((0.0, True), (0.6, False)):
        fitted = fit_drawn(
            pointwise(),
            drawn_loader(images, masks, clicks=(clicks,)),
            keep="last",
            propagated_loss_fraction=fraction,
        )
        near = torch.allclose(
            fitted.weights["network.weight"], wanted.weights["network.weight"], rtol=1e-4
        )
        assert near == alike
    # By hand, with a rate of nothing: a mean over each of the two.
    model = pointwise()
    with torch.no_grad():
        logits = model(images)
    losses = nn.functional.cross_entropy(
        logits, masks.long(), ignore_index=IGNORE_INDEX, reduction="none"
    )
    is_clicked = clicks != IGNORE_INDEX
    is_grown = ~is_clicked & (masks != IGNORE_INDEX)
    wanted = 0.4 * losses[is_clicked].mean() + 0.6 * losses[is_grown].mean()
    fitted = fit_drawn(
        model,
        drawn_loader(images, masks, 8, clicks=(clicks,)),
        epochs=1,
        lr=1e-30,
        propagated_loss_fraction=0.6,
    )
    assert fitted.kept.train_loss == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("propagated_loss_fraction", [None, 0.3])
@pytest.mark.parametrize("loss", [PartialLoss(class_weights=(0.1, 0.3)), PartialLoss(gamma=2.0)])
def test_accumulated_batches_count_by_the_weight_of_their_labels(loss, propagated_loss_fraction):
    ways = {"loss": loss, "propagated_loss_fraction": propagated_loss_fraction, "optimiser": "sgd"}
    images, masks = easy_samples(8)
    for number in range(8):
        masks[number, 4 * (number % 4) + 4 :] = IGNORE_INDEX
    clicks = torch.where(torch.arange(32) < 16, masks, IGNORE_INDEX)
    weights = []
    for size, accumulate in ((4, 1), (2, 2), (2, 1)):
        model = pointwise()
        train = drawn_loader(images, masks, size, clicks=(clicks,))
        fit_drawn(model, train, accumulate=accumulate, **ways)
        weights.append(model.network.weight.detach())
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights[2], weights[0], rtol=1e-2)


def test_a_term_that_is_not_finite_stops_with_its_name(monkeypatch):
    broken = torch.tensor(math.nan)
    monkeypatch.setattr(consistency, "weak_to_strong", lambda *_: (broken, broken))
    monkeypatch.setattr(Fabric, "backward", lambda *_: None)
    with pytest.raises(ValueError, match=r"consistency loss nan is not finite\. Try"):
        fit_term(TERMS["consistency"])


# Going on


class Interrupted(Exception):
    """What ends a training in the middle, in place of a signal."""


def interrupted(run, folder, *, after, early=False):
    """Call run(saved, save) until `after` epochs are saved, then again from the file they left.

    Args:
        run: fits a new model.
        folder: for the state, which goes through a file as the stage's does.
        after: how many epochs are saved before the end.
        early: whether it ends before the last of them is reported.
    """
    path = folder / "state.pt"

    def save(epoch, state):
        if epoch > after:
            raise Interrupted
        torch.save(state, path)
        if early and epoch == after:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(None, save)
    return run(torch.load(path, weights_only=True), lambda *_: None)


OTHER_WAYS = (
    {"optimiser": "sgd", "schedule": "plateau", "drop_epochs": 1, "clip_norm": 0.1},
    {"optimiser": "adam", "schedule": "one_cycle", "accumulate": 3},
    {"schedule": "step", "drop_epochs": 2, "drop_factor": 0.5, "patience": 2},
)


@pytest.mark.parametrize("ways", OTHER_WAYS)
def test_any_optimiser_and_schedule_goes_on_bit_by_bit(tmp_path, ways):
    def run(saved, save):
        results = []
        fitted = fit_drawn(
            pointwise(),
            drawn_loader(*easy_samples(9)),
            epochs=6,
            ema_decay=0.5,
            report=results.append,
            saved=saved,
            save=save,
            **ways,
        )
        return results, fitted

    (results, fitted), (again, resumed) = run(None, None), interrupted(run, tmp_path, after=2)
    assert timeless(again) == timeless(results)
    assert have_equal_weights(resumed, fitted)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_training_that_goes_on_ends_as_one_that_was_not_interrupted(tmp_path, keep, after, early):
    """With batch normalisation, dropout, weight decay and an average of the weights."""

    def run(saved, save):
        torch.manual_seed(3)
        layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3)
        model = Segmenter(nn.Sequential(*layers, nn.Conv2d(4, 2, 1)), MEAN, STD)
        torch.manual_seed(after if saved else 99)  # what another process would find
        results = []
        fitted = fit_drawn(
            model,
            drawn_loader(*easy_samples(7)),
            epochs=5,
            weight_decay=0.01,
            ema_decay=0.9,
            keep=keep,
            report=results.append,
            saved=saved,
            save=save,
        )
        return results, fitted, model

    results, fitted, model = run(None, None)
    again, resumed, other = interrupted(run, tmp_path, after=after, early=early)
    assert timeless(again) == timeless(results)
    assert timeless([resumed.kept]) == timeless([fitted.kept])
    assert have_equal_weights(resumed, fitted)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_the_epoch_that_is_kept_may_lie_before_the_interruption(tmp_path, monkeypatch):
    mious = {1: 0.2, 2: 0.6, 3: 0.4, 4: 0.5, 5: 0.3}

    def run(saved, save):
        epochs = iter(range(len(saved["results"]) + 1 if saved else 1, 6))
        monkeypatch.setattr(
            training, "validate", lambda *_: (1.0, {"miou": mious[next(epochs)], "by_class": {}})
        )
        return fit_drawn(
            pointwise(), drawn_loader(*easy_samples(4)), epochs=5, saved=saved, save=save
        )

    whole = run(None, None)
    for after in (2, 3, 4):
        fitted = interrupted(run, tmp_path, after=after)
        assert fitted.kept.epoch == 2
        assert have_equal_weights(fitted, whole)


@pytest.mark.slow
def test_a_real_network_on_tiles_goes_on_bit_by_bit(folder, train_tiles, val_tiles, tmp_path):
    def run(saved, save):
        return fit_tiles(folder, train_tiles, val_tiles, model="fpn", saved=saved, save=save)

    (results, fitted), (again, resumed) = run(None, None), interrupted(run, tmp_path, after=2)
    assert timeless(again) == timeless(results)
    assert have_equal_weights(resumed, fitted)


def test_a_finished_training_goes_on_to_the_same_end_without_an_epoch():
    states, results = {}, []

    def save(epoch, state):
        assert epoch == len(results) + 1  # each epoch is saved before it is reported
        states.update(copy.deepcopy(state))

    fitted = fit_drawn(
        pointwise(), drawn_loader(*easy_samples(4)), report=results.append, save=save
    )
    again = fit_drawn(
        pointwise(seed=5),
        drawn_loader(*easy_samples(4)),
        saved=states,
        save=lambda *_: pytest.fail("an epoch was computed"),
    )
    assert again.kept == fitted.kept
    assert have_equal_weights(again, fitted)


# The epoch that is kept


def test_the_weights_are_those_of_the_epoch_with_the_highest_sparse_miou(monkeypatch):
    mious = iter([0.2, 0.6, 0.4, 0.6, 0.5])

    def scripted(*_):
        miou = next(mious)
        return 1.0, {"miou": miou, "by_class": {"dark": {"iou": miou}, "bright": {"iou": None}}}

    monkeypatch.setattr(training, "validate", scripted)
    model, seen = pointwise(), []

    def report(result):
        seen.append((result.is_kept, model.network.weight.detach().clone()))

    fitted = fit_drawn(model, drawn_loader(*easy_samples(4)), epochs=5, report=report)
    assert [is_kept for is_kept, _ in seen] == [True, True, False, False, False]
    assert (fitted.kept.epoch, fitted.kept.val_miou) == (2, 0.6)
    assert torch.equal(fitted.weights["network.weight"], seen[1][1])
    assert not torch.equal(seen[4][1], seen[1][1])  # training went on


def test_the_last_epoch_is_kept_where_that_is_asked_for(monkeypatch):
    mious = iter([0.6, 0.2, 0.4])
    monkeypatch.setattr(
        training, "validate", lambda *_: (1.0, {"miou": next(mious), "by_class": {}})
    )
    model = pointwise()
    fitted = fit_drawn(model, drawn_loader(*easy_samples(4)), epochs=3, keep="last")
    assert (fitted.kept.epoch, fitted.kept.val_miou) == (3, 0.4)
    assert torch.equal(fitted.weights["network.weight"], model.network.weight)


def test_the_average_follows_its_formula_and_copies_what_is_counted():
    def network():
        return Segmenter(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)), MEAN, STD)

    def move(one, value, batches):
        with torch.no_grad():
            for weights in one.parameters():
                weights.fill_(value)
            one.network[1].num_batches_tracked.fill_(batches)

    def mean_of(average):
        values = torch.cat([weights.flatten() for weights in average.network.parameters()])
        assert values.min() == values.max()
        return values[0].item()

    model = network()
    average = EmaWeights(model, 0.2)
    move(model, 1, 7)
    average.update()
    assert mean_of(average) == 1  # the first is taken as it is
    move(model, 3, 8)
    average.update()  # decay (1 + 1) / (10 + 1)
    assert mean_of(average) == pytest.approx(1 * 2 / 11 + 3 * 9 / 11)
    before = mean_of(average)
    move(model, 3, 9)
    average.update()  # (1 + 2) / (10 + 2) is more than 0.2
    assert mean_of(average) == pytest.approx(before * 0.2 + 3 * 0.8)
    assert average.network.network[1].num_batches_tracked == 9
    last = EmaWeights(model, 0)
    for value in (1, 2):
        move(model, value, 7)
        last.update()
    assert mean_of(last) == 2  # nothing is averaged


def test_an_epoch_in_which_everything_is_wrong_can_still_be_the_best(monkeypatch):
    result = 1.0, {"miou": 0.0, "by_class": {}}
    monkeypatch.setattr(training, "validate", lambda *_: result)
    fitted = fit_drawn(pointwise(), drawn_loader(*easy_samples(4)), epochs=2)
    assert fitted.kept.epoch == 1


# Batches without labels


def test_batches_without_labels_are_counted_and_move_no_weight():
    images, masks = easy_samples(6)
    masks[:] = IGNORE_INDEX
    model = pointwise()
    before = model.network.weight.detach().clone()
    fitted = fit_drawn(model, drawn_loader(images, masks), epochs=2)
    assert fitted.kept.batches_without_labels == 3
    assert fitted.kept.train_loss == 0
    assert torch.equal(model.network.weight, before)


def test_some_batches_without_labels_do_not_keep_a_network_from_learning():
    images, masks = easy_samples(12)
    unlabelled = torch.arange(12) < 8
    masks[unlabelled] = IGNORE_INDEX
    train, results = drawn_loader(images, masks), []
    wanted = []
    for epoch in range(1, 11):
        train.batch_sampler.epochs = [epoch]
        wanted.append(sum(all(unlabelled[n] for _, n in batch) for batch in train.batch_sampler))
    fitted = fit_drawn(pointwise(), train, epochs=10, lr=0.1, report=results.append)
    assert [result.batches_without_labels for result in results] == wanted
    assert min(wanted) > 0
    assert fitted.kept.val_miou == 1


# Steps


def fitted_weights(**settings):
    """Weights after one epoch over eight samples whose numbers of labels differ."""
    images, masks = easy_samples(8)
    for number in range(8):
        masks[number, 4 * (number % 4) + 4 :] = IGNORE_INDEX
    masks[6] = IGNORE_INDEX
    size = settings.pop("batch_size")
    model = pointwise()
    results = []
    fit_drawn(
        model,
        drawn_loader(images, masks, size),
        report=results.append,
        **({"epochs": 3, "optimiser": "sgd"} | settings),
    )
    return model.network.weight.detach().clone(), results


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(2, 2), (4, 2), (2, 4), (3, 2)])
def test_batches_that_are_accumulated_are_as_one_larger_batch(batch_size, accumulate, optimiser):
    """Without batch normalisation, which sees each batch alone."""
    weights, results = fitted_weights(
        batch_size=batch_size, accumulate=accumulate, optimiser=optimiser
    )
    wanted, one_batch = fitted_weights(batch_size=batch_size * accumulate, optimiser=optimiser)
    torch.testing.assert_close(weights, wanted, rtol=1e-4, atol=1e-6)
    for result, other in zip(results, one_batch, strict=True):
        assert result.train_loss == pytest.approx(other.train_loss, rel=1e-5)
        assert result.lr == pytest.approx(other.lr)
        assert result.batches_without_labels == other.batches_without_labels
    unlike, _ = fitted_weights(batch_size=batch_size, optimiser=optimiser)
    assert not torch.allclose(unlike, wanted, rtol=1e-2)


def test_more_batches_to_a_step_than_an_epoch_has_are_refused():
    with pytest.raises(ValueError, match=r"accumulate is 5, but an epoch has 4 batch\(es\): lower"):
        fitted_weights(batch_size=2, accumulate=5)


@pytest.mark.parametrize("clip_norm", [1e-3, 0.05])
def test_gradients_are_shortened_to_the_norm_and_not_turned(clip_norm):
    """One step of plain SGD goes the rate times the norm, in the direction of the gradient."""
    plain = {"epochs": 1, "lr": 0.1, "momentum": 0.0, "nesterov": False, "schedule": "constant"}
    start = pointwise()
    steps, norms = [], []
    for norm in (None, clip_norm):
        model = pointwise()
        results = []
        fit_drawn(
            model,
            drawn_loader(*easy_samples(8), 8),
            report=results.append,
            optimiser="sgd",
            clip_norm=norm,
            **plain,
        )
        moved = [
            (new - old).detach().flatten()
            for new, old in zip(model.parameters(), start.parameters(), strict=True)
        ]
        steps.append(torch.cat(moved))
        norms.append(results[0].grad_norm)
    rate = 0.1 / 1.1  # the warm-up's first step
    assert norms[0] is None
    assert norms[1] == pytest.approx(steps[0].norm().item() / rate, rel=1e-3)
    assert steps[1].norm().item() == pytest.approx(rate * clip_norm, rel=1e-3)
    cosine = torch.nn.functional.cosine_similarity(steps[0], steps[1], dim=0).item()
    assert cosine == pytest.approx(1, abs=1e-4)


def test_gradients_within_the_norm_are_left_as_they_are():
    left, _ = fitted_weights(batch_size=2, clip_norm=1e9)
    assert torch.equal(left, fitted_weights(batch_size=2)[0])


def test_the_rate_of_each_step_is_that_of_the_schedule(monkeypatch):
    used = []
    step = torch.optim.SGD.step

    def noted(self, *args, **kwargs):
        used.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    _, results = fitted_weights(batch_size=2, epochs=2, lr=0.05)
    rates = [0.05 * cosine(ScheduleStep(number, 8, 4), warmup=0.1) for number in range(9)]
    assert used == pytest.approx(rates[:8])
    assert [result.lr for result in results] == pytest.approx([rates[4], rates[8]])


# Stopping early


def scripted_mious(monkeypatch, mious):
    values = iter(mious)
    monkeypatch.setattr(
        training, "validate", lambda *_: (1.0, {"miou": next(values), "by_class": {}})
    )


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (3, 7), (4, 8), (None, 8)])
def test_training_stops_after_so_many_epochs_without_a_better_one(monkeypatch, patience, epochs):
    scripted_mious(monkeypatch, [0.1, 0.2, 0.2, 0.3, 0.1, 0.3, 0.2, 0.1])
    results = []
    fit_drawn(
        pointwise(),
        drawn_loader(*easy_samples(4)),
        epochs=8,
        patience=patience,
        report=results.append,
    )
    assert len(results) == epochs


def test_plateau_lowers_the_rate_by_the_sparse_miou_of_the_epochs(monkeypatch):
    scripted_mious(monkeypatch, [0.3, 0.2, 0.1, 0.4, 0.4])
    results = []
    fit_drawn(
        pointwise(),
        drawn_loader(*easy_samples(4)),
        epochs=5,
        lr=0.05,
        schedule="plateau",
        drop_epochs=2,
        drop_factor=0.5,
        report=results.append,
    )
    assert [result.lr for result in results] == pytest.approx([0.05, 0.05, 0.025, 0.025, 0.025])


# What an epoch costs


def test_waiting_for_the_loader_is_told_apart_from_computing():
    class Slow(Drawn):
        def __getitem__(self, draw):
            time.sleep(0.02)
            return super().__getitem__(draw)

    class Busy(nn.Conv2d):
        def forward(self, values):
            time.sleep(0.04)
            return super().forward(values)

    fractions = []
    for dataset, layer in ((Slow, nn.Conv2d), (Drawn, Busy)):
        loader = DataLoader(dataset(*easy_samples(8)), batch_sampler=EpochBatches(8, 2, 0))
        fitted = fit_drawn(Segmenter(layer(3, 2, 1), MEAN, STD), loader, epochs=1)
        fractions.append(fitted.kept.waited_fraction)
    assert fractions[0] > 0.5 > 0.3 > fractions[1] > 0


def test_the_peak_of_memory_is_what_the_system_says(monkeypatch):
    fitted = fit_drawn(pointwise(), drawn_loader(*easy_samples(4)), epochs=1)
    assert 0.2 < fitted.kept.peak_memory_mib / (psutil.Process().memory_info().rss / 2**20) < 5


# Breaking down


def test_gradients_that_break_under_clipping_are_named():
    class BrokenBackward(torch.autograd.Function):
        @staticmethod
        def forward(_context, values):
            return values.clone()

        @staticmethod
        def backward(_context, gradient):
            return gradient * math.nan

    class Broken(nn.Conv2d):
        def forward(self, values):
            return BrokenBackward.apply(super().forward(values))

    model = Segmenter(Broken(3, 2, 1), MEAN, STD)
    with pytest.raises(ValueError, match=r"in epoch 1: gradient norm nan is not finite\. Try"):
        fit_drawn(model, drawn_loader(*easy_samples(2)), clip_norm=1.0)


def test_a_rate_that_diverges_stops_with_what_to_try():
    with pytest.raises(ValueError, match=r"broke down in epoch \d: .*tenth of train\.lr.*fp32"):
        fit_drawn(pointwise(), drawn_loader(*easy_samples(8)), epochs=9, lr=1e30, weight_decay=0.01)


def test_alone_on_a_cpu_training_stops_at_the_step_that_breaks():
    taken = []

    class Counted(nn.Conv2d):
        def forward(self, values):
            taken.append(self.training)
            return super().forward(values) * (math.nan if len(taken) == 2 else 1)

    with pytest.raises(ValueError, match=r"in epoch 1: loss nan is not finite\. Try"):
        fit_drawn(Segmenter(Counted(3, 2, 1), MEAN, STD), drawn_loader(*easy_samples(20)))
    assert taken == [True, True]


def test_a_band_that_becomes_infinite_stops_with_what_to_try():
    model = Segmenter(nn.Conv2d(3, 2, 1), MEAN, (60.0, 0.0, 60.0))
    with pytest.raises(ValueError, match=r"in epoch 1: loss nan is not finite\. Try"):
        fit_drawn(model, drawn_loader(*easy_samples(4)))


def test_a_buffer_that_breaks_beside_a_finite_loss_is_found_and_named():
    class Poisoned(nn.Conv2d):
        def __init__(self):
            super().__init__(3, 2, 1)
            self.register_buffer("running_var", torch.ones(2))

        def forward(self, values):
            self.running_var.fill_(math.inf)
            return super().forward(values)

    with pytest.raises(ValueError, match=r"weights of network\.running_var is not finite"):
        fit_drawn(Segmenter(Poisoned(), MEAN, STD), drawn_loader(*easy_samples(4)))


def test_a_network_that_breaks_only_in_validation_stops_too():
    class BrokenOutside(nn.Conv2d):
        def forward(self, values):
            return super().forward(values) * (1 if self.training else math.inf)

    with pytest.raises(ValueError, match=r"validation loss (nan|inf) is not finite"):
        fit_drawn(Segmenter(BrokenOutside(3, 2, 1), MEAN, STD), drawn_loader(*easy_samples(4)))


# Validation


def test_validation_without_a_label_is_refused_with_what_to_do():
    images, masks = easy_samples(2)
    unlabelled = images, torch.full_like(masks, IGNORE_INDEX)
    with pytest.raises(ValueError, match=r"no val tile has a label.*raise `points`"):
        fit_drawn(pointwise(), drawn_loader(*easy_samples(4)), val=unlabelled)


def test_validation_without_a_tile_is_refused_before_an_epoch_is_spent():
    images, masks = easy_samples(2)
    model = pointwise()
    before = model.network.weight.detach().clone()
    with pytest.raises(ValueError, match="no val tile has a label"):
        fit_drawn(model, drawn_loader(images, masks), val=(images[:0], masks[:0]))
    assert torch.equal(model.network.weight, before)


def test_validation_is_over_pixels_and_one_matrix_however_the_tiles_are_batched():
    images, masks = easy_samples(5, seed=4)
    masks[1, 8:] = IGNORE_INDEX  # tiles with unlike numbers of labels
    masks[3] = IGNORE_INDEX
    model = pointwise(seed=3).eval()
    with torch.no_grad():
        logits = model(images)
    wanted = nn.functional.cross_entropy(logits, masks.long(), ignore_index=IGNORE_INDEX).item()
    labelled = masks != IGNORE_INDEX
    counts = torch.zeros(2, 2, dtype=torch.int64)
    for true, guessed in zip(
        masks[labelled].tolist(), logits.argmax(1)[labelled].tolist(), strict=True
    ):
        counts[true, guessed] += 1
    for batch_size in (1, 2, 5):
        loader = DataLoader(TensorDataset(images, masks), batch_size)
        seen = []
        loss, result = validate(
            model,
            loader,
            partial_cross_entropy,
            CLASSES.names,
            lambda first, predicted, seen=seen: seen.append((first, predicted.clone())),
        )
        assert loss == pytest.approx(wanted, rel=1e-5)
        assert result == scores(counts.numpy(), CLASSES.names)
        assert [first for first, _ in seen] == list(range(0, len(images), batch_size))
        assert torch.equal(torch.cat([predicted for _, predicted in seen]), logits.argmax(1))


def test_validation_moves_no_statistic_of_batch_normalisation():
    model = Segmenter(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)), MEAN, STD)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loader = DataLoader(TensorDataset(*easy_samples(4)), 2)
    validate(model, loader, partial_cross_entropy, CLASSES.names)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Precision and device


def test_bf16_that_is_asked_for_is_used_and_fp32_too():
    assert make_fabric("cpu", "bf16").strategy.precision.precision == "bf16-mixed"
    assert make_fabric("cpu", "fp32").strategy.precision.precision == "32-true"


def test_cuda_where_there_is_none_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"got cuda, but torch sees no GPU.*auto or cpu"):
        make_fabric("cuda", "fp32")
    assert make_fabric("auto", "fp32").device == torch.device("cpu")


def test_more_gpus_than_there_are_are_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"got 2, but torch sees 1 GPU\(s\): set devices to that"):
        make_fabric("cuda", "fp32", 2)


def test_fabric_does_not_talk_below_warnings():
    assert logging.getLogger("lightning_fabric").level == logging.WARNING
