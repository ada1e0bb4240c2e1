"""The files of an open project: metadata, citation, templates and CI agree with the code."""

import os
import re
import subprocess
import sys
import tomllib
from types import ModuleType
from typing import Any

import pytest
import yaml

import pointcover
from tests.imagery import ROOT

SETUP = "the environment describes another version: run `make setup`"
PYTHONS = ["3.11", "3.12", "3.13"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read_yaml(name: str) -> Any:
    return yaml.safe_load(read(name))


@pytest.fixture
def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))["project"]


@pytest.fixture
def reloaded(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """pointcover where no installed package is found."""
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    return pointcover


def run_module(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pointcover", *args],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_version_is_that_of_pyproject(project):
    assert pointcover.__version__ == project["version"], SETUP


def test_without_an_installed_package_the_version_says_so(reloaded):
    assert reloaded.__version__ == reloaded.UNKNOWN_VERSION == "0+unknown"


def test_the_package_has_no_other_attributes_made_up():
    with pytest.raises(AttributeError, match="no attribute 'versoin'"):
        _ = pointcover.versoin


def test_python_m_pointcover_is_the_command(project):
    done = run_module("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"pointcover {project['version']}\n", SETUP


def test_help_names_the_command_and_not_the_module():
    done = run_module("--help")
    assert done.returncode == 0
    assert "Usage: pointcover [OPTIONS] COMMAND" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_for_a_shell(shell):
    # Without shell detection, the option takes the shell's name: tests may run under none.
    done = run_module("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert "_POINTCOVER_COMPLETE" in done.stdout


def test_completion_is_installed_for_bash_and_completes_commands(tmp_path):
    done = run_module(
        "--install-completion",
        "bash",
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
        HOME=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".bashrc").is_file()
    done = run_module(
        _POINTCOVER_COMPLETE="complete_bash", COMP_WORDS="pointcover pre", COMP_CWORD="1"
    )
    assert done.stdout.split() == ["predict"]


def test_pyproject_describes_the_package_and_names_no_address(project):
    assert project["authors"] == [{"name": "pointcover developers"}]
    assert project["keywords"]
    assert "urls" not in project
    versions = [
        found[1]
        for text in project["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text))
    ]
    assert versions == PYTHONS
    assert project["requires-python"] == f">={PYTHONS[0]}"
    assert "Typing :: Typed" in project["classifiers"]
    assert (ROOT / "src/pointcover/py.typed").is_file()


def test_the_citation_is_whole_and_of_this_version(project):
    citation = read_yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == project["authors"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert citation["abstract"] == f"{project['description']}."


def test_security_supports_this_version(project):
    minor = ".".join(project["version"].split(".")[:2])
    assert f"| {minor} (the latest release) | yes |" in read("SECURITY.md")


def test_the_workflow_runs_ci_on_each_python():
    job = read_yaml(".github/workflows/test.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"] == {"python": PYTHONS}
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert job["env"] == {"PYTHON": "python${{ matrix.python }}"}
    assert re.search(r"^PYTHON \?= ", read("Makefile"), re.MULTILINE)  # the environment decides


def test_the_hooks_are_local_and_run_what_make_lint_runs():
    repos = read_yaml(".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    hooks = repos[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    recipe = re.search(r"^lint: setup\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)
    assert recipe
    commands = [line.strip().removesuffix(" .") for line in recipe[1].splitlines()]
    assert [hook["entry"].removeprefix(".venv/bin/") for hook in hooks] == commands


@pytest.mark.parametrize("name", ["bug_report", "feature_request"])
def test_issue_templates_have_a_name_and_say_what_they_are_for(name):
    _, head, body = read(f".github/ISSUE_TEMPLATE/{name}.md").split("---\n", 2)
    assert {"name", "about"} <= yaml.safe_load(head).keys()
    assert body.strip()


def test_the_forms_of_the_repository_are_there():
    assert read_yaml(".github/ISSUE_TEMPLATE/config.yml") == {"blank_issues_enabled": True}
    assert "CHANGELOG.md" in read(".github/pull_request_template.md")


def test_uv_is_used_where_it_is_installed_and_leaves_cuda_out(tmp_path):
    def commands(**more: str) -> list[str]:
        path = f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin"
        done = subprocess.run(
            ["make", "--dry-run", "--always-make", "setup"],
            cwd=ROOT,
            env={"PATH": path, "HOME": str(tmp_path)} | more,
            check=True,
            capture_output=True,
            text=True,
        )
        return [line for line in done.stdout.splitlines() if "pip install" in line]

    with_pip = commands()
    assert with_pip[0].startswith("pip install")
    assert "--requirement requirements.lock --requirement requirements-cuda.lock" in with_pip[0]
    (tmp_path / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "uv").chmod(0o755)
    with_uv = commands()
    assert all(line.startswith("uv pip install") for line in with_uv)
    assert "requirements-cuda.lock" not in "".join(with_uv)


def test_pins_of_cuda_stand_in_a_file_of_their_own():
    names = {
        name: [line.partition("==")[0] for line in read(name).splitlines()]
        for name in ("requirements.lock", "requirements-cuda.lock")
    }
    cuda = re.compile("nvidia|triton|cuda")
    assert not [name for name in names["requirements.lock"] if cuda.match(name)]
    assert all(cuda.match(name) for name in names["requirements-cuda.lock"])
    assert names["requirements-cuda.lock"]
