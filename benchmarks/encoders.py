"""Size and cost of encoders, each in a network that fits it, by megapixel of the image.

Run it with ``PYTHONPATH=src python benchmarks/encoders.py`` (a few minutes); names of encoders
select others, ``--quick`` runs one small encoder of each kind, as a test. Weights are random, so
nothing is downloaded.

Each network scores one image of 512 × 512 px on one thread, in fp32 and in bf16, in alternation;
the least processor time is shown, with the operations that torch counts (a multiplication and an
addition are two). Times vary on a busy machine: compare the ratios.
"""
# ruff: noqa: T201

import argparse
import time
from collections.abc import Callable

import timm
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.segmenter import Segmenter
from pointcover.networks.settings import NetworkSettings
from pointcover.networks.vision_transformer import is_vision_transformer

SIZE, CLASSES = 512, 5

ENCODERS = (
    "resnet18",
    "resnet50",
    "tu-regnetx_002",
    "tu-tf_efficientnet_lite0",
    "tu-convnext_tiny.dinov3_lvd1689m",
    "tu-convnext_small.dinov3_lvd1689m",
    "tu-vit_tiny_patch16_224",
    "tu-vit_small_patch16_dinov3",
    "tu-vit_small_patch14_dinov2",
    "tu-vit_base_patch16_dinov3",
)

QUICK = ("resnet18", "tu-test_convnext", "tu-test_vit")

ENOUGH_S = 4.0
"""Seconds of processor time after which an encoder is not run again."""


def is_vit(encoder: str) -> bool:
    """Return whether an encoder is a vision transformer."""
    return encoder.startswith("tu-") and is_vision_transformer(encoder.removeprefix("tu-"))


def build(encoder: str, width: float) -> Segmenter:
    """Build a U-Net on the encoder, or DPT on a vision transformer."""
    settings = NetworkSettings(
        model="dpt" if is_vit(encoder) else "unet", encoder=encoder, width=width
    )
    statistics = BandStatistics((100.0,) * 3, (50.0,) * 3)
    return build_model(settings, statistics, CLASSES).eval()


def count_operations(network: nn.Module, size: int) -> float:
    """Count the GFLOPs of a megapixel; those of attention are counted as matrix products."""
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        network(torch.zeros(1, 3, size, size))
    return float(counter.get_total_flops()) / 1e9 / (size * size / 1e6)


def seconds_of(call: Callable[[bool], object], enough_s: float) -> tuple[float, float]:
    """Return the least processor time without and with bf16."""
    best = [float("inf")] * 2
    started = time.process_time()
    while best[1] == float("inf") or time.process_time() - started < enough_s:
        for in_bf16 in (False, True):
            start = time.process_time()
            call(in_bf16)
            best[in_bf16] = min(best[in_bf16], time.process_time() - start)
    return best[0], best[1]


def licence_of(encoder: str) -> str:
    """Return the licence of timm's weights; a dash for encoders of segmentation-models-pytorch."""
    published = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    return str(published.license) if encoder.startswith("tu-") and published else "-"


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("encoders", nargs="*", help="names as for train.encoder")
    parser.add_argument("--width", type=float, default=1.0, help="of the decoder")
    parser.add_argument("--quick", action="store_true", help="run few encoders once, and small")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size, enough_s = (64, 0.0) if options.quick else (SIZE, ENOUGH_S)
    megapixels = size * size / 1e6
    print(f"torch {torch.__version__}, one thread, {size} × {size} px, width {options.width}")
    columns = ("encoder M", "all M", "GFLOP", "all GFLOP", "fp32 CPU s", "bf16 CPU s")
    print(f"\n{'':36}{'':6}{''.join(f'{name:>11}' for name in columns)}  licence")
    for name in options.encoders or (QUICK if options.quick else ENCODERS):
        segmenter = build(name, options.width)
        image = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8)

        def score(
            in_bf16: bool, segmenter: Segmenter = segmenter, image: torch.Tensor = image
        ) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
                logits: torch.Tensor = segmenter(image)
                return logits

        encoder, whole = (
            sum(weights.numel() for weights in part.parameters()) / 1e6
            for part in (segmenter.network.encoder, segmenter)
        )
        in_encoder, in_all = (
            count_operations(part, size) for part in (segmenter.network.encoder, segmenter.network)
        )
        plain, ours = (seconds / megapixels for seconds in seconds_of(score, enough_s))
        model = "dpt" if is_vit(name) else "unet"
        print(
            f"{name:36}{model:6}{encoder:11.1f}{whole:11.1f}{in_encoder:11.0f}{in_all:11.0f}{plain:11.1f}"
            f"{ours:11.1f}  {licence_of(name)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
