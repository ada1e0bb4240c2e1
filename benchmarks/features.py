"""Time of pixel features on one core: scipy against the filter bank, and two ways of mapping.

Run it with ``PYTHONPATH=src python benchmarks/features.py`` (about two minutes on an idle core);
``--quick`` runs everything once and small, as a test.

The baseline of the filters is scipy.ndimage in float32, with each intermediate result computed
once. The baseline of a map from an encoder's features is a linear layer on the features of all
pixels. All run in alternation, each time is the best of its rounds: compare the ratios.
"""
# ruff: noqa: T201

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import timm
import torch
from scipy import ndimage
from torch import Tensor

from pointcover.features.encoder_pyramid import EncoderPyramid
from pointcover.features.filter_bank import FilterBank
from pointcover.features.settings import EncoderFeatureSettings, FilterBankSettings
from pointcover.features.windows import WindowGrid, iterate_features

Image = npt.NDArray[np.float32]


def by_scipy(image: Image, settings: FilterBankSettings) -> list[Image]:
    """Compute the filters of the bank with scipy, and reuse intermediate results."""

    def eigenvalues(first: Image, mixed: Image, second: Image) -> list[Image]:
        middle, half = (first + second) / 2, (first - second) / 2
        distance = np.sqrt(half * half + mixed * mixed)
        return [middle + distance, middle - distance]

    features: list[Image] = []
    for plane in image:
        for sigma in settings.sigmas_px:
            down = [ndimage.gaussian_filter1d(plane, sigma, 0, order) for order in (0, 1, 2)]
            smoothed = ndimage.gaussian_filter1d(down[0], sigma, 1)
            rows = ndimage.gaussian_filter1d(down[1], sigma, 1)
            cols = ndimage.gaussian_filter1d(down[0], sigma, 1, 1)
            rows_twice = ndimage.gaussian_filter1d(down[2], sigma, 1)
            cols_twice = ndimage.gaussian_filter1d(down[0], sigma, 1, 2)
            mixed = ndimage.gaussian_filter1d(down[1], sigma, 1, 1)
            products = [
                ndimage.gaussian_filter(product, sigma / 2)
                for product in (rows * rows, rows * cols, cols * cols)
            ]
            features += [
                smoothed,
                rows_twice + cols_twice,
                np.sqrt(rows * rows + cols * cols),
                smoothed - ndimage.gaussian_filter(plane, 0.66 * sigma),
                *eigenvalues(*products),
                *eigenvalues(rows_twice, mixed, cols_twice),
            ]
    return features


def best_seconds(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Time calls in alternation; return the best time of each.

    Each is called twice in a row, since the first call allocates memory again.
    """
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for place, call in enumerate(calls):
            for _ in range(2):
                start = time.perf_counter()
                call()
                best[place] = min(best[place], time.perf_counter() - start)
    return best


def time_filters(size: int, rounds: int) -> None:
    """Print the times of the filter bank and of scipy."""
    settings = FilterBankSettings(bands=False, hsv_sigmas_px=(), excess_green_sigmas_px=())
    filters, whole = FilterBank(settings), FilterBank()
    image = np.random.default_rng(0).random((3, size, size), dtype=np.float32)
    tensor = torch.from_numpy(image)
    grid = WindowGrid(size, size, whole.margin_px, size_px=size // 2)

    def by_windows() -> None:
        for _ in iterate_features(whole, lambda rows, cols: tensor[:, rows, cols], grid):
            pass

    calls = {
        "scipy, filters": lambda: by_scipy(image, settings),
        "ours, filters": lambda: filters(tensor[None]),
        "ours, filters and colours": lambda: whole(tensor[None]),
        f"ours, windows of {size // 2} px": by_windows,
    }
    seconds = best_seconds(list(calls.values()), rounds)
    print(f"\nFilter bank, {size} × {size} px{'':14}{'s/megapixel':>12}{'ratio':>8}")
    for name, taken in zip(calls, seconds, strict=True):
        print(f"{name:40}{taken / size**2 * 1e6:9.2f}{seconds[0] / taken:10.1f}x")


def time_pyramid(size: int, rounds: int) -> None:
    """Print the times of a map from all features of all pixels, and from projected levels."""
    encoder = timm.create_model("tf_efficientnet_lite0", features_only=True)
    image = torch.rand(1, 3, size, size)
    rows, cols = torch.randint(0, size, (2, 100))
    print(f"\nEfficientNet-Lite0, {size} × {size} px, 5 classes{'s/megapixel':>13}{'ratio':>8}")
    for scale in (1.0, 2.0):
        settings = EncoderFeatureSettings(scales=(scale,))
        pyramid = EncoderPyramid(encoder, (0.5,) * 3, (0.5,) * 3, settings)
        weight, bias = torch.randn(5, pyramid.count) / 100, torch.zeros(5)

        def of_all(
            pyramid: EncoderPyramid = pyramid, weight: Tensor = weight, bias: Tensor = bias
        ) -> Tensor:
            return torch.einsum("kf,nfhw->nkhw", weight, pyramid(image)) + bias.view(-1, 1, 1)

        project = partial(pyramid.project, image, weight, bias)
        calls = {
            f"scale {scale:g}, features, then linear": of_all,
            f"scale {scale:g}, projected": project,
            f"scale {scale:g}, projected, bf16": lambda project=project: in_bf16(project),
            f"scale {scale:g}, 100 points": partial(pyramid.at, image[0], rows, cols),
        }
        seconds = best_seconds(list(calls.values()), rounds)
        for name, taken in zip(calls, seconds, strict=True):
            print(f"{name:40}{taken / size**2 * 1e6:9.2f}{seconds[0] / taken:10.1f}x")


def in_bf16(call: Callable[[], Tensor]) -> Tensor:
    """Call within autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        return call()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="run everything once, and small")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, RGB")
    time_filters(*((128, 1) if quick else (1024, 5)))
    time_pyramid(*((64, 1) if quick else (512, 3)))


if __name__ == "__main__":
    main()
