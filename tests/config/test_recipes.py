"""Recipes are valid settings, and writing one keeps the rest of params.yaml."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from typer.testing import CliRunner

from pointcover.cli.app import app
from pointcover.config.params import load_params
from pointcover.config.recipes import RECIPES, write_recipe
from tests.imagery import ROOT, change


@pytest.mark.parametrize("name", RECIPES)
def test_writing_a_recipe_changes_its_settings_and_nothing_else(tmp_path, name):
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    write_recipe(RECIPES[name], path)
    load_params(path)
    before = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
    assert yaml.safe_load(path.read_text("utf-8")) == change(before, dict(RECIPES[name].settings))
    again = tmp_path / "again.yaml"
    shutil.copy(path, again)
    apply_overrides(again, ["seed=1"])
    assert again.read_bytes() == path.read_bytes(), "DVC would write it in another way"
    comments = re.findall(r"#.*", (ROOT / "params.yaml").read_text("utf-8"))
    assert re.findall(r"#.*", path.read_text("utf-8")) == comments


@pytest.mark.parametrize("name", RECIPES)
def test_the_weights_of_a_recipe_replace_a_weights_file(tmp_path, name):
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text("utf-8")
    path.write_text(text.replace("_file: sources/none", "_file: encoder.pt"), "utf-8")
    assert load_params(path).train.initial_weights == "encoder.pt"
    write_recipe(RECIPES[name], path)
    wanted = {"filters": "none"}.get(name, "imagenet")
    assert load_params(path).train.initial_weights == wanted


@pytest.mark.parametrize("name", RECIPES)
def test_options_are_read_by_dvc_as_the_settings(name):
    options = RECIPES[name].options()
    assert " ".join(options).split() == options, "`$(pointcover recipe …)` splits at blanks"
    assert not set("'\"\\$`*?;&|<>(){}~#!") & set("".join(options))
    assert options[::2] == ["-S"] * len(RECIPES[name].settings)
    for option, (key, value) in zip(options[1::2], RECIPES[name].settings.items(), strict=True):
        said, _, text = option.partition("=")
        assert (said, yaml.safe_load(text)) == (key, value)


def test_the_command_lists_shows_and_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    run = CliRunner().invoke
    assert all(f"{name}: " in run(app, ["recipe"]).output for name in RECIPES)
    assert run(app, ["recipe", "fast"]).output == " ".join(RECIPES["fast"].options()) + "\n"
    assert run(app, ["recipe", "fast", "--write"]).exit_code == 0
    assert load_params(tmp_path / "params.yaml").train.model == "classifier_mean"
    assert "wanted one of fast, best" in run(app, ["recipe", "fats"]).output


def test_a_file_without_a_setting_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text("utf-8")
    path.write_text(text.replace("  propagator:", "  other:"), "utf-8")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"has no line for annotate\.propagator"):
        write_recipe(RECIPES["fast"], path)
    assert path.read_bytes() == before


def test_in_a_terminal_options_are_quoted_for_the_shell():
    """Zsh takes `[2]` without quotes for a pattern, and refuses the command."""
    pty = pytest.importorskip("pty")
    leader, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "pointcover", "recipe", "fast"],
        stdout=terminal,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0
    os.close(terminal)
    with os.fdopen(leader, encoding="utf-8", errors="replace") as shown:
        text = shown.readline()
    assert "'train.classifier.scales=[2]'" in text
    assert shlex.split(text) == RECIPES["fast"].options()
