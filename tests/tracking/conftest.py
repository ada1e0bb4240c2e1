import shutil

import pytest

from pointcover.tracking import store as mlflow_store


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An initialised store without experiments: copying one is quicker than making one."""
    store = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow_store._make_sqlite_store(store)
    return store


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (
        "DVC_ROOT",
        "DVC_EXP_NAME",
        "DVC_EXP_BASELINE_REV",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bare_root(tmp_path):
    """A project without a store, its path with blanks and signs that URIs make much of."""
    root = tmp_path / "my maps #1 é"
    root.mkdir()
    (root / "dvc.yaml").touch()
    return root


@pytest.fixture
def root(bare_root, empty_store):
    shutil.copy(empty_store, bare_root / "mlflow.db")
    return bare_root
