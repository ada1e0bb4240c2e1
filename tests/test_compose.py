"""The compose file of a team's server: its variables, versions and scripts."""

import os
import re
import shutil
import subprocess

import pytest
import yaml

from tests.imagery import ROOT

FILE = ROOT / "docker" / "compose.yaml"
TEXT = FILE.read_text(encoding="utf-8")
SERVICES = yaml.safe_load(TEXT)["services"]
GUIDE = (ROOT / "docs" / "guides" / "team.md").read_text(encoding="utf-8")


def variables() -> dict[str, bool]:
    """Return the variables of the file, and whether one may be left out."""
    found = re.findall(r"(?<!\$)\$\{(\w+)(:[-?])", TEXT)
    assert len(found) == len(re.findall(r"(?<!\$)\$\{", TEXT)), "each says what if it is not set"
    return {name: sign == ":-" for name, sign in found}


def test_the_guide_names_every_variable():
    named = set(re.findall(r"^(\w+)=", GUIDE, flags=re.MULTILINE))
    assert named == variables().keys()


def test_passwords_are_ignored_by_git_and_have_no_default():
    assert "/docker/team.env" in (ROOT / ".gitignore").read_text().splitlines()
    assert [name for name, has_default in variables().items() if has_default] == ["MLFLOW_HOSTS"]


def test_services_wait_for_services_with_a_way_to_tell_that_they_are_ready():
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert wanted["condition"] == "service_completed_successfully"
                assert "restart" not in SERVICES[name]


def test_volumes_are_declared():
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    }
    assert used == yaml.safe_load(TEXT)["volumes"].keys()


def test_the_database_is_not_reached_from_outside():
    assert "ports" not in SERVICES["postgres"]


def test_images_have_versions_and_the_servers_packages_are_those_of_the_lock():
    for service in SERVICES.values():
        if "image" in service:
            assert not service["image"].endswith((":latest", service["image"].partition(":")[0]))
    lock = dict(
        line.partition(" ;")[0].split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    )
    made = re.findall(
        r"'([\w-]+)(?:\[\w+\])?==([\d.]+)'", SERVICES["mlflow"]["build"]["dockerfile_inline"]
    )
    assert dict(made) == {name: lock[name] for name in ("mlflow", "psycopg2-binary", "boto3")}


@pytest.mark.parametrize("name", ["buckets", "mlflow"])
def test_scripts_of_services_are_shell(name):
    script = SERVICES[name]["command"][-1].replace("$$", "$")
    script = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", script)
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_the_options_of_the_server_exist():
    from click.testing import CliRunner
    from mlflow.cli import cli

    shown = CliRunner().invoke(cli, ["server", "--help"]).output
    options = re.findall(r"(--[a-z-]+)", SERVICES["mlflow"]["command"][-1])
    assert len(options) > 4
    assert [option for option in options if option not in shown] == []


def test_compose_accepts_the_file():
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    if subprocess.run(
        ["docker", "compose", "version"], capture_output=True, check=False
    ).returncode:
        pytest.skip("docker has no plugin compose")
    done = subprocess.run(
        ["docker", "compose", "--file", str(FILE), "config", "--quiet"],
        env=os.environ | dict.fromkeys(variables(), "value"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
