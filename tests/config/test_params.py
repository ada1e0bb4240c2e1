"""params.yaml is taken as a whole or not at all, and one message says everything that is wrong."""

import re
import subprocess
import sys
from datetime import datetime
from difflib import unified_diff
from functools import reduce
from importlib import import_module
from typing import get_args

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from pointcover.config.params import Params, load_params
from pointcover.config.recipes import RECIPES
from pointcover.config.run_summary import describe, run_name
from pointcover.networks.weights_files import find_packaged_weights
from pointcover.validation import section_in
from pointcover.yaml_files import read_yaml
from tests.imagery import NETWORK, ROOT, change

PARAMS = ROOT / "params.yaml"


@pytest.fixture
def refusal(tmp_path):
    """The message for params.yaml with a network and values changed."""

    def refuse(changes):
        path = tmp_path / "params.yaml"
        path.write_text(
            yaml.safe_dump(change(yaml.safe_load(PARAMS.read_text()), NETWORK | changes))
        )
        with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
            load_params(path)
        return str(caught.value)

    return refuse


def allowed(section, key):
    return set(get_args(section.model_fields[key].annotation))


def test_the_projects_own_params_are_valid_and_their_defaults_are_offline():
    params = load_params(PARAMS)
    assert params.dataset == "synthetic"
    assert params.train.weights == "imagenet"
    assert find_packaged_weights(params.train.encoder.removeprefix("tu-")) is not None


def test_the_defaults_are_those_of_the_recipe_fast():
    values = read_yaml(PARAMS)
    for key, value in RECIPES["fast"].settings.items():
        *sections, last = key.split(".")
        assert reduce(lambda place, name: place[name], sections, values)[last] == value, key


@pytest.mark.parametrize(
    "changes",
    [
        {"train.loss": "focal"},
        {"train.label_smoothing": 0.1},
        {"train.consistency.weight": 1},
        {"train.crf.weight": 0.1},
    ],
)
def test_a_classifier_is_refused_settings_without_effect(refusal, changes):
    classifier = {"train.model": "random_forest", "train.class_weighting": "balanced"}
    (key,) = changes
    said = refusal(classifier | {"train.encoder": "none"} | changes)
    assert f"{key.split('.')[1]}: no effect on model 'random_forest'" in said


@pytest.mark.parametrize(
    ("module", "registry", "key"),
    [
        ("pointcover.networks.architectures", "MODELS", "model"),
        ("pointcover.training.losses", "LOSSES", "loss"),
        ("pointcover.training.optimisers", "OPTIMISERS", "optimiser"),
        ("pointcover.training.schedules", "SCHEDULES", "schedule"),
        ("pointcover.training.augmentation_levels", "AUGMENTATIONS", "augmentation"),
    ],
)
def test_an_entry_of_a_registry_is_all_that_params_need_to_accept_it(
    make_params, monkeypatch, module, registry, key
):
    entries = getattr(import_module(module), registry)
    first = next(iter(entries))
    monkeypatch.setitem(entries, "fresh", entries[first])
    assert getattr(make_params({f"train.{key}": "fresh"}).train, key) == "fresh"


def test_params_want_an_encoder_exactly_where_a_model_has_one(make_params):
    from pointcover.networks.architectures import MODELS, PIXEL_CLASSIFIER

    for model, architecture in MODELS.items():
        for encoder, is_right in (
            ("resnet18", architecture.has_encoder),
            ("none", not (architecture.has_encoder and architecture.needs_encoder)),
        ):
            weights = "none"
            if architecture.fitted_by == PIXEL_CLASSIFIER and encoder != "none":
                weights = "imagenet"  # a frozen encoder needs some
            changes = {
                "train.model": model,
                "train.encoder": encoder,
                "train.weights": weights,
            }
            if is_right:
                assert make_params(changes).train.encoder == encoder
            else:
                with pytest.raises(ValueError, match="encoder"):
                    make_params(changes)


def test_a_frozen_encoder_needs_weights_and_one_process(make_params):
    frozen = {"train.model": "random_forest", "train.encoder": "tu-tf_efficientnet_lite0"}
    assert make_params(frozen | {"train.weights": "imagenet"}).train.weights == "imagenet"
    with pytest.raises(ValueError, match=r"frozen encoder, which needs its weights"):
        make_params(frozen)
    with pytest.raises(ValueError, match=r"set devices to 1, not 2"):
        make_params(frozen | {"train.weights": "imagenet", "train.devices": 2})


def test_a_weights_file_has_a_setting_of_its_own_and_counts_before_weights(make_params, refusal):
    said = "train.weights: got 'encoder.pt', wanted imagenet or none: set weights_file to the path"
    assert said in refusal({"train.weights": "encoder.pt"})
    train = make_params({"train.weights_file": "encoder.pt"}).train
    assert (train.weights, train.initial_weights) == ("none", "encoder.pt")
    assert make_params({"train.weights": "imagenet"}).train.initial_weights == "imagenet"
    frozen = {"train.model": "random_forest", "train.encoder": "tu-tf_efficientnet_lite0"}
    assert make_params(frozen | {"train.weights_file": "encoder.pt"}).train.encoder
    scratch = {"train.model": "unet_scratch", "train.encoder": "none"}
    assert "weights_file 'encoder.pt', wanted encoder none, weights none and" in refusal(
        scratch | {"train.weights_file": "encoder.pt"}
    )
    for name in ("none", "imagenet"):
        said = f"got {name!r}, wanted the path of a file, or sources/none for none"
        assert said in refusal({"train.weights_file": name})


def test_every_width_that_params_allow_leaves_channels_whole():
    from pointcover.networks.architectures import MODELS

    for architecture in MODELS.values():
        for usual in architecture.channels.values():
            counts = (usual,) if isinstance(usual, int) else usual
            assert all(count % 4 == 0 for count in counts)


def test_semi_supervised_learning_is_off(make_params):
    from pointcover.training.semi_supervised.terms import active_terms

    params = make_params()
    assert active_terms(params.train) == ()
    assert (params.train.propagated_loss_fraction, params.train.self_training.rounds) == (None, 0)
    assert params.evaluate.priors == {}


def test_one_message_tells_every_fault(refusal):
    message = refusal(
        {
            "points": 0,
            "tile.size_px": 100,
            "annotate.sampler": "random",
            "train.lr": "fast",
            "evaluate.panels": -1,
        }
    )
    first, *faults = message.splitlines()
    assert first.endswith("has 5 faults:")
    assert faults == [
        "  - points: got 0, wanted a whole number, at least 1",
        "  - tile.size_px: got 100, wanted a whole number, at least 64, at most 4096, "
        "a multiple of 32",
        "  - annotate.sampler: got 'random', allowed: 'uniform', 'equal', 'proportional', "
        "'spread', 'boundary', 'interior', 'scribbles', 'positive', 'dense' or 'none'",
        "  - train.lr: got 'fast', wanted a number, more than 0, at most 1",
        "  - evaluate.panels: got -1, wanted a whole number, at least 0, at most 64",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"annotate.unit": "percent", "points": 101}, "points is 101 with annotate.unit 'percent'"),
        ({"annotate.sampler": "positive"}, "'positive' needs positive_class"),
        ({"annotate.sampler": "scribbles", "annotate.unit": "percent"}, "no number of strokes"),
        ({"train.encoder": "none"}, "train: model 'unet' needs an encoder, got 'none'"),
        ({"train.model": "unet_scratch"}, "train: model 'unet_scratch' has no encoder"),
        (
            {"train.model": "unet_scratch", "train.encoder": "none", "train.weights": "imagenet"},
            "weights 'imagenet', wanted encoder none, weights none",
        ),
        ({"train.optimiser": "sgd", "train.momentum": 0}, "momentum is 0: set nesterov to false"),
        ({"train.schedule": "one_cycle", "train.warmup": 0}, "warmup is 0: set warmup to 0.3"),
        ({"train.batch_size": 4, "train.devices": 3}, "with devices 3: wanted at least 6"),
        ({"train.gamma": 2}, "gamma is 2.0, but loss 'cross_entropy' has none: set gamma to null"),
        ({"train.class_weights": {"water": 0}}, "train.class_weights.water: got 0, wanted"),
        (
            {"train.schedule": "cosinus"},
            "train.schedule: got 'cosinus', allowed: 'cosine', 'one_cycle', 'step', 'plateau' or "
            "'constant'; did you mean 'cosine'?",
        ),
        ({"evaluate.prior_strength": 2.0}, "prior_strength is 2, but there are no priors"),
        ({"train.loss": "dice"}, "train.loss: got 'dice', allowed: 'cross_entropy' or 'focal'"),
        ({"train.label_smoothing": 1}, "train.label_smoothing: got 1, wanted a number"),
        ({"train.consistency.threshold": 0}, "train.consistency.threshold: got 0, wanted a number"),
        ({"train.classifier.smoothing_px": -1}, "smoothing_px: got -1, wanted a whole number, at"),
        (
            {"train.classifier.smoothing_px": 9},
            "got 9, wanted a whole number, at least 0, at most 8",
        ),
        ({"train.classifier.smoothing_px": 2.0}, "smoothing_px: got 2.0, wanted a whole number"),
        ({"train.crf.scale": 3}, "train.crf.scale: got 3, allowed: 1, 2, 4 or 8"),
        ({"train.self_training.rounds": -1}, "train.self_training.rounds: got -1, wanted a whole"),
        (
            {"train.warmup": 1, "train.crf.weight": 0.1},
            "begin after the warm-up, and warmup is 1: lower warmup",
        ),
        (
            {"annotate.propagator": "none", "train.propagated_loss_fraction": 0.5},
            "train.propagated_loss_fraction is 0.5, but no label is propagated: set it to null",
        ),
        (
            {"train.propagated_loss_fraction": 1},
            "train.propagated_loss_fraction: got 1, wanted less than 1",
        ),
        ({"evaluate.erode_px": -1}, "evaluate.erode_px: got -1, wanted a whole number, at least 0"),
        ({"evaluate.worst": 65}, "evaluate.worst: got 65, wanted a whole number, at least 0"),
        ({"evaluate.leave_out": "water"}, "evaluate.leave_out: got 'water', wanted a valid tuple"),
        ({"evaluate.priors": {"water": 0}}, "evaluate.priors.water: got 0, wanted"),
        ({"train.patience": 20}, "patience is 20, but training ends after 20 epochs"),
        ({"train.schedule": "step", "train.drop_epochs": 20}, "drop_epochs is 20, but training"),
        ({"train.schedule": "plateau", "train.epochs": 5}, "drop_epochs is 5, but training"),
        ({"machine.workers": 0}, "workers is 0: wanted 1 or more, or -1"),
    ],
)
def test_values_that_do_not_go_together_are_refused(refusal, changes, said):
    assert said in refusal(changes)


@pytest.mark.parametrize("points", [0, -5, "many", 2.5, 5.0, True, None, [5], "100"])
def test_points_are_a_whole_number_from_one(refusal, points):
    assert f"points: got {points!r}, wanted a whole number, at least 1" in refusal(
        {"points": points}
    )


@pytest.mark.parametrize("width", [0, 0.3, 2.25, -1, "wide"])
def test_a_width_is_a_number_of_quarters(refusal, width):
    said = "wanted a number, at least 0.25, at most 2, a multiple of 0.25"
    assert f"train.width: got {width!r}, {said}" in refusal({"train.width": width})


def test_an_unknown_key_is_refused_with_the_nearest_known_one(refusal):
    assert "annotate.smapler: this key is unknown; did you mean 'sampler'?" in refusal(
        {"annotate.smapler": "dense"}
    )
    assert "seeds: this key is unknown; did you mean 'seed'?" in refusal({"seeds": 1})


def test_an_unknown_key_like_no_other_is_refused_with_all_known_ones(refusal):
    message = refusal({"tile.qqqq": 1})
    assert "tile.qqqq: this key is unknown; known keys: downsample, size_px, split_seed" in message


def test_a_missing_key_and_a_missing_section_are_named(tmp_path):
    values = yaml.safe_load(PARAMS.read_text())
    del values["points"], values["tile"], values["train"]["lr"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match="3 faults") as caught:
        load_params(path)
    for key in ("points", "tile", "train.lr"):
        assert f"- {key}: this key is missing; add it" in str(caught.value)


def test_a_section_that_is_a_value_is_refused_with_its_keys(refusal):
    message = refusal({"tile": 512})
    assert "tile: got 512, wanted a section with the keys size_px, downsample" in message


def test_text_that_yaml_does_not_take_for_a_number_is_one(tmp_path):
    # PyYAML reads 1e-3 as text, DVC as a number.
    text = re.sub(r"lr: \S+", "lr: 1e-3", PARAMS.read_text())
    assert yaml.safe_load(text)["train"]["lr"] == "1e-3"
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").train.lr == 0.001


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan"])
def test_what_is_not_finite_is_no_number(refusal, value):
    assert "train.lr: got" in refusal({"train.lr": value})


def test_a_crop_larger_than_a_tile_is_refused(refusal):
    message = refusal({"tile.size_px": 128, "train.crop_px": 256})
    assert "train.crop_px is 256, larger than tile.size_px 128" in message


def test_a_classifier_has_no_crops(make_params):
    forest = {"train.model": "random_forest", "train.encoder": "none", "train.weights": "none"}
    params = make_params(forest | {"tile.size_px": 64, "train.crop_px": 128})
    assert params.train.crop_px > params.tile.size_px


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("points: [1", "not valid YAML"),
        ("a: b: c", "line 1"),
        ("", "holds nothing, wanted lines of `key: value`"),
        ("- 1\n- 2\n", "holds [1, 2], wanted lines"),
    ],
)
def test_what_is_no_yaml_mapping_is_refused_by_name(tmp_path, text, said):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_refused_by_name(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"dataset: \xff\xfe")
    with pytest.raises(ValueError, match=r"params\.yaml is not UTF-8 .* save it as UTF-8"):
        read_yaml(tmp_path / "params.yaml")


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the command from the project's root"):
        load_params(tmp_path / "params.yaml")


def test_params_cannot_be_changed_once_read(make_params):
    with pytest.raises(ValueError, match="frozen"):
        make_params().points = 3


def test_a_run_that_dvc_does_not_name_tells_dataset_points_and_time(make_params):
    params = make_params({"dataset": "sources/mine.yaml", "points": 7})
    assert run_name(params, datetime(2024, 5, 6, 7, 8, 9)) == "mine-7-20240506-070809"


def test_what_is_recorded_of_params_is_flat_and_theirs(make_params):
    params: Params = make_params({"points": 7, "train.lr": 0.5})
    columns = describe(params)
    assert (columns["points"], columns["lr"], columns["dataset"]) == (7, 0.5, "synthetic")
    assert all(isinstance(value, str | int | float | None) for value in columns.values())


def test_a_missing_key_is_named_even_where_the_code_has_a_default(tmp_path):
    values = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    del values["evaluate"]["crf"]["radius_px"]
    del values["suggest"]["by_class"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"lacks evaluate\.crf\.radius_px, suggest\.by_class: add"):
        load_params(tmp_path / "params.yaml")


def settings_of(model, values, place=""):
    """Yield each field that is no section, its dotted key, and its value in params.yaml."""
    for name, field in model.model_fields.items():
        section = section_in(field.annotation)
        if section is not None and isinstance(values[name], dict):
            yield from settings_of(section, values[name], f"{place}{name}.")
        else:
            yield field, place + name, values[name]


def test_every_setting_has_a_description_and_no_default_that_contradicts_params_yaml():
    values = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    for field, key, value in settings_of(Params, values):
        assert field.description, key
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
            assert (list(default) if isinstance(default, tuple) else default) == value, key


def test_comments_and_schema_are_those_of_the_classes():
    subprocess.run([sys.executable, "tools/settings.py", "--check"], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("override", "lines"),
    [
        ("points=500", {"points: 500"}),
        ("train.gamma=3", {"  gamma: 3"}),
        ("train.encoder=none", {"  encoder: none"}),
        ("train.classifier.scales=[4]", {"    - 4"}),
        ("evaluate.leave_out=[road]", {"  leave_out:", "  - road"}),
        ("annotate.sampler=uniform", set()),  # its value
    ],
)
def test_dvc_changes_only_the_lines_of_the_value_that_is_set(tmp_path, override, lines):
    before = (ROOT / "params.yaml").read_text("utf-8")
    path = tmp_path / "params.yaml"
    path.write_text(before, "utf-8")
    apply_overrides(path, [override])  # what `dvc exp run -S` calls
    difference = list(unified_diff(before.splitlines(), path.read_text("utf-8").splitlines(), n=0))
    added = [line[1:] for line in difference[2:] if line.startswith("+")]
    removed = [line for line in difference[2:] if line.startswith("-")]
    assert {line.partition("#")[0].rstrip() for line in added} == lines
    assert len(removed) == (1 if lines else 0)
