"""Epochs are recorded once and in order, also where the store is locked for a while."""

from types import SimpleNamespace

import pytest

from pointcover.tracking.store import StoreLockedError
from pointcover.training import record as recording
from pointcover.training.record import TrainingRecord
from tests.tile_sets import CLASSES


class Store:
    """Stands for a run in a store that another process may lock."""

    def __init__(self):
        self.is_locked, self.logged, self.attempts = False, [], 0

    def logged_steps(self, _name):
        return frozenset()

    def log_metrics(self, metrics, step=0):
        self._log("metrics", step)

    def log_images(self, images, step):
        self._log("images", step)

    def _log(self, kind, step):
        self.attempts += 1
        if self.is_locked:
            raise StoreLockedError("mlflow.db is locked")
        self.logged.append((kind, step))


def epoch(number):
    row, metrics = (lambda: {"epoch": number}), (lambda: {"train/loss": 1.0})
    return SimpleNamespace(epoch=number, row=row, metrics=metrics)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def record(store, monkeypatch):
    monkeypatch.setattr(recording, "Previews", lambda *_: SimpleNamespace(take=dict))
    data = SimpleNamespace(val_set=lambda: None, tile_set=SimpleNamespace(classes=CLASSES))
    return TrainingRecord(store, data)


def steps(*numbers):
    return [(kind, number) for number in numbers for kind in ("metrics", "images")]


def test_training_goes_on_where_the_store_is_locked_and_records_all_later(
    record, store, caplog, monkeypatch
):
    record.report(epoch(1))
    store.is_locked = True
    for number in (2, 3):
        record.report(epoch(number))
    assert store.logged == steps(1)
    assert store.attempts == 3, "the store is not asked at each epoch"
    assert caplog.text.count("is locked. Training goes on, and its epochs are recorded later") == 1
    store.is_locked = False
    record.report(epoch(4))
    assert store.logged == steps(1)
    monkeypatch.setattr(record, "_try_again_s", 0.0)
    record.report(epoch(5))
    assert store.logged == steps(1, 2, 3, 4, 5)
    assert [row["epoch"] for row in record.rows] == [1, 2, 3, 4, 5]


def test_the_end_of_a_training_waits_for_the_store(record, store, monkeypatch):
    store.is_locked = True
    record.report(epoch(1))
    monkeypatch.setattr(recording, "WAIT_S", 0)
    with pytest.raises(StoreLockedError):
        record._wait_for_store()
    store.is_locked = False
    record._wait_for_store()
    assert store.logged == steps(1)
