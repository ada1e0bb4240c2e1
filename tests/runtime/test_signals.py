"""Training in several processes: as one with the whole batch, and all of them end together."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from tests.imagery import ROOT

FIT = """
    import json, sys
    from pathlib import Path
    import torch
    from torch import nn
    from pointcover.runtime.devices import make_fabric
    from pointcover.labels import IGNORE_INDEX
    from pointcover.networks.build import BandStatistics, build_model
    from pointcover.networks.segmenter import Segmenter
    from tests.train_settings import network_settings, train_settings
    from tests.training.test_fit import MEAN, STD, drawn_loader, easy_samples
    from pointcover.training.losses.partial import PartialLoss
    from pointcover.training.fit import Problem, fit
    from pointcover.training.results import Callbacks
    from torch.utils.data import DataLoader, TensorDataset

    devices, out = int(sys.argv[1]), Path(sys.argv[2])
    settings = json.loads(sys.argv[3])
    loss = PartialLoss(**settings.pop("loss", {}))
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    fabric = make_fabric("cpu", "fp32", devices)
    fabric.launch()
    images, masks = easy_samples(20)
    for number in range(20):  # parts of a batch hold unlike numbers of labels, some none
        masks[number, 4 * (number % 5) :] = IGNORE_INDEX
    clicks = torch.where(torch.arange(32) < 12, masks, IGNORE_INDEX)
    torch.manual_seed(5)
    # No batch normalisation: on a CPU each process would normalise by its own part of a batch.
    model = Segmenter(
        nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 1)), MEAN, STD
    )
    if encoder := settings.pop("encoder", None):
        statistics = BandStatistics(MEAN, STD)
        model = build_model(network_settings("unet", encoder, 0.25), statistics, 2)
    results = []
    problem = Problem(
        model, drawn_loader(images, masks, 4, clicks=(clicks,)),
        DataLoader(TensorDataset(images, masks), 4), loss, ("dark", "bright"),
    )
    how = {"epochs": 4, "lr": 0.02, "ema_decay": 0.8, "schedule": "cosine"} | settings
    fitted = fit(fabric, problem, train_settings(**how), Callbacks(results.append))
    weights = {name: value.flatten().tolist() for name, value in fitted.weights.items()}
    text = json.dumps({"results": [vars(result) for result in results], "weights": weights})
    (out / f"{devices}-{fabric.global_rank}.json").write_text(text)
"""


def fit_in(devices, folder, **settings):
    """Fit in so many processes; give what each of them came to."""
    script = folder / "fit.py"
    script.write_text(textwrap.dedent(FIT))
    environment = {key: value for key, value in os.environ.items() if key != "LOCAL_RANK"}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, str(script), str(devices), str(folder), json.dumps(settings)],
        env=environment | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{devices}-{rank}.json").read_text()) for rank in range(devices)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": "sgd"},
        {"accumulate": 2, "clip_norm": 0.05, "schedule": "plateau", "drop_epochs": 1},
        {
            "accumulate": 2,
            "propagated_loss_fraction": 0.3,
            "crf": {"weight": 0.3, "radius_px": 2},
            "loss": {"gamma": 1.0, "class_weights": [0.3, 2.0]},
        },
    ],
)
def test_two_processes_fit_as_one_with_the_whole_batch(tmp_path, settings):
    """The same up to the order of sums: a relative 1e-4 of losses, of weights 1e-3."""
    (one,) = fit_in(1, tmp_path, **settings)
    first, second = fit_in(2, tmp_path, **settings)
    assert first["weights"] == second["weights"]
    for ours, wanted in zip(first["results"], one["results"], strict=True):
        for key in ("train_loss", "val_loss", "val_miou", "lr", "grad_norm"):
            assert (ours[key] or 0) == pytest.approx(wanted[key] or 0, rel=1e-4), key
        assert ours["batches_without_labels"] == wanted["batches_without_labels"]
        assert ours["is_kept"] == wanted["is_kept"]
    for name, values in first["weights"].items():
        assert values == pytest.approx(one["weights"][name], rel=1e-3, abs=1e-5)
    losses = [result["train_loss"] for result in one["results"]]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_two_processes_with_students_in_colours_of_their_own_stay_one_network(tmp_path):
    ways = {"accumulate": 2, "consistency": {"weight": 1.0, "threshold": 0.6}}
    first, second = fit_in(2, tmp_path, **ways)
    (plain, _) = fit_in(2, tmp_path, accumulate=2)
    assert first["weights"] == second["weights"]
    assert first["weights"] != plain["weights"]
    terms = [result["terms"] for result in first["results"]]
    assert terms == [result["terms"] for result in second["results"]]
    assert all(0 < one["consistency_fraction"] <= 1 for one in terms[1:])


@pytest.mark.slow
def test_two_processes_keep_one_network_with_statistics_and_weights_that_take_no_part(tmp_path):
    """Each normalises its own part of a batch, and efficientnet-b0 brings idle weights along."""
    ways = {"consistency": {"weight": 1.0, "threshold": 0.6}}
    first, second = fit_in(2, tmp_path, encoder="efficientnet-b0", **ways)
    assert any("running_mean" in name for name in first["weights"])
    assert first["weights"] == second["weights"]
