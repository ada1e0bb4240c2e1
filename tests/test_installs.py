"""Requirements, lock, conda environment and Docker images agree, and images can be built."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.imagery import ROOT

DOCKERFILES = ("Dockerfile", "Dockerfile.gpu")
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
"""Names on conda-forge that are not those on PyPI."""

CONDA_ONLY = {"python", "pip", "git"}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements_of(*extras):
    """Return what pointcover requires with extras, by name."""
    declared, found = project(), {}
    todo = [*declared["dependencies"]]
    for extra in extras:
        todo += declared["optional-dependencies"][extra]
    while todo:
        one = Requirement(todo.pop())
        if one.name == "pointcover":
            todo += [text for each in one.extras for text in requirement_texts(each)]
        else:
            assert found.setdefault(one.name, one).specifier == one.specifier, one.name
    return found


def requirement_texts(extra):
    return project()["optional-dependencies"][extra]


# Requirements


def test_maps_alone_need_few_packages():
    assert set(requirements_of("maps")) == {
        *("numpy", "rasterio", "affine", "pydantic", "filelock", "tqdm", "typer"),
        *("onnxruntime", "protobuf"),
    }


def test_the_docs_name_every_extra():
    guide = (ROOT / "docs" / "guides" / "install.md").read_text(encoding="utf-8")
    rows = [line for line in guide.splitlines() if line.startswith("| `pointcover[")]
    named = [set(re.findall(r"\[([a-z0-9,]+)\]`", row.split("|")[1])) for row in rows]
    extras = {extra for row in named for each in row for extra in each.split(",")}
    declared = project()["optional-dependencies"]
    assert extras == set(declared) - {"docs", "dev"}

    (decision,) = (ROOT / "docs" / "explanation" / "decisions").glob("0112-*.md")
    (said,) = re.findall(r"(`label`[^.]*) contain `train`", decision.read_text(encoding="utf-8"))
    with_train = {
        extra
        for extra, texts in declared.items()
        if any(
            one.name == "pointcover" and "train" in one.extras for one in map(Requirement, texts)
        )
    }
    assert set(re.findall(r"`(\w+)`", said)) == with_train - {"dev"}


def test_the_extra_of_the_server_has_mlflow_and_its_databases():
    assert {"mlflow", "psycopg2-binary", "boto3"} <= set(requirements_of("server"))


def test_every_package_is_declared_once():
    declared = project()
    texts = [*declared["dependencies"]]
    for more in declared["optional-dependencies"].values():
        texts += more
    names = [Requirement(text).name for text in texts if not text.startswith("pointcover[")]
    assert sorted(names) == sorted(set(names))


def test_the_lock_has_a_version_of_each_package_that_is_required():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines]
    for name, required in requirements_of("dev", "docs").items():
        versions = [
            next(iter(pin.specifier)).version
            for pin in pins
            if pin.name == name.lower().replace("_", "-")
        ]
        assert versions, f"requirements.lock has no {name}"
        for version in versions:
            assert version in required.specifier, f"{name} {version}"


def test_the_conda_environment_is_that_of_pyproject():
    values = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert values["channels"] == ["conda-forge", "nodefaults"]
    *conda, by_pip = values["dependencies"]
    found = {one.name: one.specifier for one in map(Requirement, [*conda, *by_pip["pip"]])}
    assert len(found) == len(conda) + len(by_pip["pip"])
    assert found.pop("python") == SpecifierSet(project()["requires-python"])
    wanted = {
        CONDA_NAMES.get(name, name): one.specifier
        for name, one in requirements_of("train", "onnx", "label").items()
    }
    assert {name: found[name] for name in found if name not in CONDA_ONLY} == wanted
    assert not {one.split(">")[0] for one in by_pip["pip"]} & set(CONDA_NAMES.values())


# Dockerfiles


def instructions_of(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, and what follows each."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    pairs = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(name, rest.strip()) for name, _, rest in pairs]


def faults_of(text: str) -> Iterator[str]:
    """Yield what a linter would say of a Dockerfile."""
    found = instructions_of(text)
    for name, rest in found:
        if name == "FROM" and not re.match(r"[\w./-]+:\d+\.\d+\.\d+-slim-\w+( AS \w+)?$", rest):
            yield f"the base image has no exact, slim tag: {rest}"
        if name == "ADD" or (name == "COPY" and rest.split()[0] == "."):
            yield f"copy files by their names: {rest}"
        if name == "WORKDIR" and not rest.startswith("/"):
            yield f"the folder is relative: {rest}"
        if name in ("ENTRYPOINT", "CMD") and not rest.startswith("["):
            yield f"a shell runs {rest}"
        if name == "RUN":
            yield from _faults_of_run(rest, found)
    users = [rest for name, rest in found if name == "USER"]
    made = [rest for name, rest in found if name == "RUN" and rest.startswith("useradd")]
    if not users or users[-1] in ("root", "0") or not any(users[-1] in rest for rest in made):
        yield "it runs as root, or as a user that is not made"


def _faults_of_run(rest: str, found: list[tuple[str, str]]) -> Iterator[str]:
    if "apt-get" in rest:
        for part in ("apt-get update", "--yes", "--no-install-recommends", "rm -rf /var/lib/apt"):
            if part not in rest:
                yield f"apt-get without {part}"
    for command in re.findall(r"(?<!uv )pip install ([^&]*)", rest):
        if "--no-cache-dir" not in command:
            yield "pip keeps its cache"
        if not all("==" in word for word in command.split() if not word.startswith("-")):
            yield f"versions are not pinned: {command}"
    if "uv pip install" in rest:
        if "--constraint requirements.lock" not in rest:
            yield "versions are not those of the lock"
        if not any(name == "ENV" and "UV_NO_CACHE=1" in more for name, more in found):
            yield "uv keeps its cache"
    if re.search(r"\bsudo\b|\bcd\s|curl|wget", rest):
        yield f"sudo, cd, or a download: {rest}"


def read_dockerfile(name: str) -> str:
    return (ROOT / "docker" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_dockerfile_has_no_faults(name):
    assert list(faults_of(read_dockerfile(name))) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("python:3.12.12-slim-bookworm", "python:latest", "no exact, slim tag"),
        ("python:3.12.12-slim-bookworm", "python", "no exact, slim tag"),
        ("COPY src src", "COPY . .", "copy files by their names"),
        ("COPY src src", "ADD src src", "copy files by their names"),
        ("WORKDIR /work", "WORKDIR work", "the folder is relative"),
        ('ENTRYPOINT ["pointcover"]', "ENTRYPOINT pointcover", "a shell runs"),
        ("USER pointcover", "USER root", "it runs as root"),
        ("USER pointcover\n", "", "it runs as root"),
        ("USER pointcover", "USER nobody-made", "it runs as root"),
        (" --no-install-recommends", "", "apt-get without --no-install-recommends"),
        ("&& rm -rf /var/lib/apt/lists/*", "&& true", "apt-get without rm -rf"),
        ("uv==0.13.9", "uv", "versions are not pinned"),
        ("--no-cache-dir ", "", "pip keeps its cache"),
        (" --constraint requirements.lock", "", "versions are not those of the lock"),
        (" UV_NO_CACHE=1", "", "uv keeps its cache"),
        ("RUN uv venv", "RUN cd /tmp && uv venv", "sudo, cd, or a download"),
    ],
)
def test_a_fault_of_a_dockerfile_would_be_seen(before, after, said):
    text = read_dockerfile("Dockerfile")
    assert before in text
    assert any(said in fault for fault in faults_of(text.replace(before, after)))


def test_both_images_differ_only_in_torch():
    texts = [instructions_of(read_dockerfile(name)) for name in DOCKERFILES]
    only = [{pair for pair in texts[n] if pair not in texts[1 - n]} for n in (0, 1)]
    assert {name for pairs in only for name, _ in pairs} == {"ENV", "RUN"}
    assert all("uv pip install" in rest for pairs in only for name, rest in pairs if name == "RUN")
    (lock,) = (rest for name, rest in only[1] if name == "RUN")
    assert "--constraint requirements-cuda.lock" in lock
    assert any("UV_TORCH_BACKEND=cpu" in rest for _, rest in only[0])


def in_context(name: str) -> bool:
    """Whether .dockerignore lets a file of the repository into the build."""
    inside = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = [name, *(str(one) for one in Path(name).parents)]
        tail = pattern.removeprefix("**/")
        ends = [Path(one).name for one in parts] if pattern.startswith("**/") else parts
        if any(fnmatch.fnmatch(one, tail) for one in ends):
            inside = line.startswith("!")
    return inside


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_the_context_of_images_has_what_a_wheel_is_built_from_and_no_data():
    assert not any(map(in_context, ("data/a.tif", ".git/config", "tests/a.py", "mlflow.db")))
    assert not in_context("src/pointcover/__pycache__/a.pyc")
    assert all(map(in_context, ("src/pointcover/cli/app.py", "setup.py", "stages/train.py")))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_copies_each_file_of_a_new_project(name):
    (listed,) = re.findall(r"^FILES = \((.*?)^\)", (ROOT / "setup.py").read_text(), re.S | re.M)
    files = re.findall(r'^    "(.+)",$', listed, re.M)
    assert "params.yaml" in files
    copies = [
        rest.split()[:-1] for kind, rest in instructions_of(read_dockerfile(name)) if kind == "COPY"
    ]
    copied = {source for sources in copies for source in sources}
    for file in files:
        assert in_context(file), file
        assert copied & {file, *map(str, Path(file).parents)}, file


class Image:
    """The steps of a Dockerfile, run one after another in a folder that stands for its root.

    What needs root (packages of Debian, a user) is left out. `uv` is a program that installs
    without a network: libraries are those of this environment, in the versions of the lock.
    """

    PLACES = ("/opt/pointcover", "/build", "/work", "/tmp/numba", "/tmp/matplotlib")
    UV = f"""#!{sys.executable}
import os, subprocess, sys
from tests.test_installs import make_venv
if sys.argv[1] == "venv":
    make_venv(sys.argv[-1])
else:
    python = sys.argv[sys.argv.index("--python") + 1]
    at = sys.argv.index(python) + 1
    command = [python, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--quiet"]
    sys.exit(subprocess.run([*command, *sys.argv[at:]]).returncode)
"""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root
        (root / "bin").mkdir(parents=True)
        for name, text in (("uv", self.UV), ("pip", "#!/bin/sh\n")):
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        self.env = {"PATH": f"{root / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"}
        self.env |= {"PYTHONPATH": str(ROOT), "HOME": str(root), "DVC_NO_ANALYTICS": "1"}
        self.start: list[str] = []

    def place(self, text: str) -> str:
        for one in self.PLACES:
            text = text.replace(one, str(self.root / one.removeprefix("/")))
        return text

    def step(self, name: str, rest: str) -> None:
        rest = self.place(rest)
        if name == "WORKDIR":
            self.folder = Path(rest)
            self.folder.mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            for word in shlex.split(rest):
                key, _, value = word.partition("=")
                self.env[key] = value.replace("$PATH", self.env["PATH"])
        elif name == "ARG":
            key, _, value = rest.partition("=")
            self.env[key] = value
        elif name == "RUN" and not rest.startswith(("apt-get", "useradd")):
            self.run("sh", "-c", rest)
        elif name == "COPY" and "--from=" not in rest:
            self.copy(rest.split())
        elif name in ("ENTRYPOINT", "CMD"):
            self.start += json.loads(rest)

    def copy(self, words: list[str]) -> None:
        *sources, target = words
        files = [name for name in tracked() if in_context(name)]
        for source in sources:
            inside = [name for name in files if f"{name}/".startswith(f"{source}/")]
            assert inside, f"{source} is not in the context"
            for name in inside:
                # A file keeps its name in a folder; a folder's content is copied.
                below = name if target == "./" else str(Path(name).relative_to(source))
                to = self.folder / target / below
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, to)

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def make_venv(folder: str) -> None:
    """Make a virtual environment that sees the libraries of this one, but not pointcover."""
    venv.create(folder, with_pip=True, symlinks=True)
    (site,) = Path(folder).glob("lib/python*/site-packages")
    for old in ("setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"):
        path = site / old
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for old in site.glob("setuptools-*"):
        shutil.rmtree(old)
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "libraries.pth").write_text(libraries)


@pytest.mark.slow
@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_steps_of_an_image_install_pointcover(tmp_path, name):
    image = Image(tmp_path)
    for instruction, rest in instructions_of(read_dockerfile(name)):
        image.step(instruction, rest)
    assert image.folder == tmp_path / "work"
    del image.env["PYTHONPATH"]
    assert image.start == ["pointcover", "--help"]
    assert "Make land-cover maps" in image.run(*image.start)
    program = shutil.which("pointcover", path=image.env["PATH"])
    assert program == str(tmp_path / "opt" / "pointcover" / "bin" / "pointcover")
    where = "import pointcover.serving; print(pointcover.__file__)"
    assert str(tmp_path / "opt" / "pointcover") in image.run("python", "-c", where)
    image.run("pointcover", "init", "project")
    assert (tmp_path / "work" / "project" / "stages" / "train.py").is_file()
