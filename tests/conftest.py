"""What all tests share: no network, no deadline on a busy machine, a project to run stages in."""

import gc
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pytest_socket import socket_allow_hosts

from pointcover.config.params import Params
from pointcover.yaml_files import read_yaml
from tests.imagery import NETWORK, ROOT, Project, change, write_dataset

# Tiny networks: a second thread waits more than it works. Stages that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("slow", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=40)


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples of a property where slow tests are left out; find packages once."""
    settings.load_profile("fast" if config.option.markexpr == "not slow" else "slow")
    # Every lightning_fabric.Fabric reads the entry points of all installed packages: 10 ms.
    importlib.metadata.entry_points = cache(importlib.metadata.entry_points)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without garbage collection, which takes a second and finds nothing in imports."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that short ones fill the end of each worker."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup() -> None:
    """Let tests talk to this machine only."""
    socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave written files to the system: no test cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)


@pytest.fixture
def one_deterministic_thread() -> Iterator[None]:
    """Compute as the stage does, in one thread: two wait for each other on a busy machine."""
    import torch  # here, as most tests do without its seconds

    from pointcover.runtime.devices import be_deterministic

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    be_deterministic()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


class BlankFigure:
    """Stands for a figure and each of its parts, and draws nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __getattr__(self, name: str) -> "BlankFigure":
        if name.startswith("__"):  # numpy asks for its own
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> "BlankFigure":
        return self

    def subplots(self, rows: int = 1, columns: int = 1, **_: object) -> Any:
        """Return one or an array of several, as matplotlib does."""
        axes = np.array([BlankFigure() for _ in range(rows * columns)], object)
        return axes[0] if len(axes) == 1 else axes


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pictures of one pixel: to draw takes more time than all else in a tiny project."""

    def save(_figure: object, path: Path, tags: dict[str, str] | None = None) -> None:
        said = PngInfo()
        for name, text in (tags or {}).items():
            said.add_text(name, text)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1)).save(path, pnginfo=said)

    monkeypatch.setattr("pointcover.figures.Figure", BlankFigure)
    monkeypatch.setattr("pointcover.figures.save_figure", save)


@pytest.fixture
def make_params() -> Callable[..., Params]:
    """params.yaml with a network and some values changed: make_params({"tile.size_px": 64})."""

    def make(changes: dict[str, Any] | None = None) -> Params:
        values = read_yaml(ROOT / "params.yaml")
        return Params.model_validate(change(values, NETWORK | (changes or {})))

    return make


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in a temporary folder, which is the working directory, with three orthophotos."""
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path)
    write_dataset(made.data)
    return made
