"""Time of a training step of each model on this machine, against a simple baseline.

Run it with ``PYTHONPATH=src python benchmarks/models.py`` (under three minutes on an idle machine
with two cores); ``--quick`` runs everything once and small, as a test. Names of models select among
them, ``--width`` sets their width, ``--encoder`` the encoder of those that have one.

A step is forward, partial cross-entropy of sparse masks, backward and AdamW, on eight images of
256 × 256 px. The baseline is fp32 with contiguous weights; ours is bf16 with channels last, as
``train.precision: auto`` selects if the processor has bf16. Both are timed in alternation in the
same run, each time is the best of those within six seconds: compare the ratios.
"""
# ruff: noqa: T201

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from pointcover.labels import IGNORE_INDEX
from pointcover.networks.architectures import GRADIENT_DESCENT, MODELS
from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.segmenter import Segmenter
from pointcover.networks.settings import NetworkSettings
from pointcover.runtime.devices import computes_in_bf16
from pointcover.training.losses.partial import PartialLoss

CLASSES, SIZE, BATCH = 5, 256, 8

NETWORKS = [name for name, one in MODELS.items() if one.fitted_by == GRADIENT_DESCENT]

ENOUGH_S = 6.0
"""Seconds after which no further round of steps begins: slow models are timed once."""


def build(name: str, encoder: str, width: float) -> Segmenter:
    """Build a network of MODELS, with the encoder where it has one; DPT needs one of its own."""
    if not MODELS[name].has_encoder:
        encoder = "none"
    elif MODELS[name].needs_vision_transformer:
        encoder = MODELS[name].examples[0]
    settings = NetworkSettings(model=name, encoder=encoder, width=width)
    return build_model(settings, BandStatistics((100.0,) * 3, (50.0,) * 3), CLASSES)


def make_step(segmenter: Segmenter, size: int, batch: int, *, as_ours: bool) -> Callable[[], None]:
    """Make a training step: ours, or the baseline."""
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    mask = torch.full((batch, size, size), IGNORE_INDEX, dtype=torch.uint8)
    mask[:, ::16, ::16] = torch.randint(CLASSES, mask[:, ::16, ::16].shape, dtype=torch.uint8)
    network: nn.Module = segmenter
    if not as_ours:
        # The segmenter itself asks for channels last: the baseline bypasses it.
        network = segmenter.network.to(memory_format=torch.contiguous_format)
        images = (images.float() - 100) / 50
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=as_ours):
            logits = network(images)
        PartialLoss()(logits, mask).backward()
        optimizer.step()

    return step


def seconds_of(calls: list[Callable[[], None]], enough_s: float) -> list[float]:
    """Time calls in alternation, so that other load affects all; return the best of each."""
    best = [float("inf")] * len(calls)
    started = time.perf_counter()
    while best[-1] == float("inf") or time.perf_counter() - started < enough_s:
        for place, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[place] = min(best[place], time.perf_counter() - start)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(NETWORKS)}; all by default")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--quick", action="store_true", help="run everything once, and small")
    options = parser.parse_args()
    unknown = set(options.models) - set(NETWORKS)
    if unknown:
        parser.error(f"got {', '.join(sorted(unknown))}, wanted some of {', '.join(NETWORKS)}")
    size, batch, enough_s = (64, 2, 0.0) if options.quick else (SIZE, BATCH, ENOUGH_S)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, encoder "
        f"{options.encoder}, width {options.width}, {batch} × {size}²"
    )
    if not computes_in_bf16("cpu"):
        print("this processor has no bf16 arithmetic: ours may be slower here")
    print(f"\n{'':24}{'weights':>10}{'baseline':>11}{'ours':>11}{'ratio':>8}{'images/s':>11}")
    for name in options.models or NETWORKS:
        make = partial(build, name, options.encoder, options.width)
        millions = sum(weights.numel() for weights in make().parameters()) / 1e6
        simple, ours = seconds_of(
            [make_step(make(), size, batch, as_ours=as_ours) for as_ours in (False, True)], enough_s
        )
        print(
            f"{name:24}{millions:8.1f} M{simple:9.2f} s{ours:9.2f} s{simple / ours:7.1f}x"
            f"{batch / ours:11.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
