"""What losses on labelled pixels cost, forward and backward, in time and memory.

Run it with ``OMP_NUM_THREADS=1 PYTHONPATH=src python benchmarks/losses.py``. Times are the best of
several runs, taken in turn, in ms of this process's own CPU time, so that others on the machine
count less. Memory is the highest sum of live allocations above what was there before, from the
allocations and releases that the torch profiler saw; the logits themselves are not in it, their
gradient is. The gated CRF loss is timed on 8 × 5 × 224².
"""
# ruff: noqa: T201

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from pointcover.labels import IGNORE_INDEX
from pointcover.losses import LOSSES
from pointcover.losses.gated_crf import gated_crf

SIZE, BATCH, CLASSES, CLICKS, RUNS = 512, 8, 5, 100, 5


def dense_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Take torch's own with an ignore index, on all logits."""
    return functional.cross_entropy(logits, mask.long(), ignore_index=IGNORE_INDEX)


def one_hot_focal(logits: Tensor, mask: Tensor) -> Tensor:
    """Take the focal loss as published, with one-hot labels on all logits."""
    labelled = mask != IGNORE_INDEX
    one_hot = functional.one_hot(torch.where(labelled, mask, 0).long(), CLASSES).movedim(-1, 1)
    p = logits.softmax(dim=1)
    losses = -(one_hot * (1 - p) ** 2 * (p + 1e-8).log()).sum(dim=1) * labelled
    return losses.sum() / labelled.sum()


def peak_mb(run: Callable[[], object]) -> float:
    """Follow the allocations of one run to their highest sum."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    live = peak = 0
    for event in sorted(record.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak / 2**20


def best_cpu_ms(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Time calls in turn; the first round warms up."""
    best = dict.fromkeys(calls, float("inf"))
    for number in range(RUNS + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if number:
                best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best


def main() -> None:
    """Print both tables."""
    torch.manual_seed(0)
    mask = torch.full((BATCH, SIZE * SIZE), IGNORE_INDEX, dtype=torch.uint8)
    for tile in mask:
        tile[torch.randperm(SIZE * SIZE)[:CLICKS]] = torch.randint(
            CLASSES, (CLICKS,), dtype=torch.uint8
        )
    mask = mask.reshape(BATCH, SIZE, SIZE)
    ways = {
        "dense cross-entropy": dense_cross_entropy,
        "cross-entropy": LOSSES["cross_entropy"],
        "one-hot focal": one_hot_focal,
        "focal": LOSSES["focal"],
    }
    for layout in (torch.contiguous_format, torch.channels_last):
        logits = torch.randn(BATCH, CLASSES, SIZE, SIZE).to(memory_format=layout).requires_grad_()
        calls = {
            name: lambda way=way, logits=logits: torch.autograd.grad(way(logits, mask), logits)
            for name, way in ways.items()
        }
        times, memory = best_cpu_ms(calls), {name: peak_mb(call) for name, call in calls.items()}
        for name in ways:
            simple = "one-hot focal" if "focal" in name else "dense cross-entropy"
            print(
                f"{layout!s:24} {name:20} {times[name]:7.1f} ms {memory[name]:6.0f} MB  "
                f"{times[simple] / times[name]:5.1f} times as fast, "
                f"{100 * memory[name] / memory[simple]:4.0f} % of the memory"
            )
    logits = torch.randn(BATCH, CLASSES, 224, 224, requires_grad=True)
    images = torch.rand(BATCH, 3, 224, 224)
    calls = {
        f"gated CRF, scale {scale}": lambda scale=scale: torch.autograd.grad(
            gated_crf(logits, images, scale=scale), logits
        )
        for scale in (1, 2, 4)
    }
    for name, ms in best_cpu_ms(calls).items():
        print(f"{name:20} {ms:7.1f} ms {peak_mb(calls[name]):6.0f} MB")


if __name__ == "__main__":
    main()
