"""Threads and instruction sets are found without torch."""

import os

import pytest

from pointcover.runtime import processor


@pytest.mark.parametrize(
    ("value", "threads"), [("3", 3), ("2,4", 2), ("0", None), ("many", None), ("", None)]
)
def test_omp_num_threads_counts_where_it_is_a_number(monkeypatch, value, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5}, raising=False)
    assert processor.count_threads() == (threads or 3)


def test_without_affinity_all_cores_count(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert processor.count_threads() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processor.count_threads() == 1


def test_instruction_sets_are_told_apart_in_any_order(tmp_path):
    found = []
    for number, line in enumerate(
        ("flags\t\t: avx2 avx512f", "flags : avx512f avx2", "Features : neon")
    ):
        path = tmp_path / str(number)
        path.write_text(f"processor\t: 0\n{line}\n")
        found.append(processor._instructions(path))
    assert found[0] == found[1] != found[2]
    assert processor._instructions(tmp_path / "none")  # a system without the file
