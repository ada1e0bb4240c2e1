"""What pixel features cost on one core, scipy beside ours.

Run it with ``PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/features.py`` (about a minute);
``--quick`` runs everything once and small, to see that it works. The filter bank is timed on an
image of 1024 × 1024 px as a whole and on windows with their margin. scipy.ndimage computes the same
values in float32, with every intermediate result that can be shared computed once. Both run in
turns, each time is the best of its rounds: trust the ratios.
"""
# ruff: noqa: T201

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from pointcover.features.filter_bank import FilterBank
from pointcover.features.settings import FilterBankSettings

Image = npt.NDArray[np.float32]


def by_scipy(image: Image, settings: FilterBankSettings) -> list[Image]:
    """Compute the filters of the bank with scipy, sharing what can be shared."""

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
    """Time calls in turns; return the best time of each."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for place, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[place] = min(best[place], time.perf_counter() - start)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="run everything once, and small")
    quick = parser.parse_args().quick
    size, rounds = (128, 1) if quick else (1024, 5)
    torch.set_num_threads(1)
    settings = FilterBankSettings(bands=False, hsv_sigmas_px=(), excess_green_sigmas_px=())
    filters, whole = FilterBank(settings), FilterBank()
    image = np.random.default_rng(0).random((3, size, size), dtype=np.float32)
    tensor = torch.from_numpy(image)[None]
    scipy_s, filters_s, whole_s = best_seconds(
        [
            lambda: by_scipy(image, settings),
            lambda: filters(tensor),
            lambda: whole(tensor),
        ],
        rounds,
    )
    megapixels = size * size / 1e6
    print(f"torch {torch.__version__}, one thread, RGB, s/megapixel")
    print(f"{'scipy, filters':32}{scipy_s / megapixels:8.2f}")
    print(f"{'ours, filters':32}{filters_s / megapixels:8.2f}{scipy_s / filters_s:8.1f}x")
    print(f"{'ours, filters and colours':32}{whole_s / megapixels:8.2f}")


if __name__ == "__main__":
    main()
