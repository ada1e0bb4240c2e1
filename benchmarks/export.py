"""Time and mIoU of exported models: PyTorch, ONNX Runtime, OpenVINO, int8.

Run it with ``PYTHONPATH=src python benchmarks/export.py`` in a project after ``dvc repro`` (some
minutes). It uses the model in ``models`` and the tiles in ``data/tiles``. Int8 is calibrated on
train tiles; mIoU is on the dense masks of the test tiles. All networks predict the same batch of
two tiles in alternation; the time is the best of the rounds, wall time and CPU time, with
OMP_NUM_THREADS threads.
"""
# ruff: noqa: T201

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.confusion import confusion_matrix, scores
from pointcover.models.export import export_model
from pointcover.models.load import load_model
from pointcover.models.onnx_model import OnnxNetwork, find_engines, read_onnx
from pointcover.models.onnx_segmenter import OnnxSegmenter
from pointcover.tileset.tiles import Tile, TileReader, read_index

BATCH = 2


def time_in_turns(
    networks: dict[str, nn.Module], images: Tensor, rounds: int
) -> dict[str, tuple[float, float]]:
    """Return the wall time and the CPU time of each network for a batch, in seconds."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    for turn in range(rounds + 1):
        for name, network in networks.items():
            started_s, cpu_s = time.perf_counter(), time.process_time()
            network(images)
            if turn:  # the first warms up
                used = time.perf_counter() - started_s, time.process_time() - cpu_s
                spent[name].append(used)
    return {
        name: (min(clock for clock, _ in times), min(cpu for _, cpu in times))
        for name, times in spent.items()
    }


def judge(
    networks: dict[str, nn.Module],
    tiles: list[Tile],
    read: Callable[[Tile], tuple[Tensor, Tensor]],
    names: tuple[str, ...],
) -> dict[str, tuple[float, float, float]]:
    """Return each network's mIoU, fraction of pixels of the same class, largest difference."""
    confusions = {name: np.zeros((len(names), len(names)), np.int64) for name in networks}
    same, largest, pixels = dict.fromkeys(networks, 0), dict.fromkeys(networks, 0.0), 0
    for tile in tiles:
        image, mask = read(tile)
        found = {name: network(image[None]).softmax(dim=1) for name, network in networks.items()}
        first = next(iter(found.values()))
        pixels += mask.numel()
        for name, probabilities in found.items():
            classes = probabilities.argmax(dim=1)
            confusions[name] += confusion_matrix(classes, mask[None], len(names)).numpy()
            same[name] += int((classes == first.argmax(dim=1)).sum())
            largest[name] = max(largest[name], float((probabilities - first).abs().max()))
    return {
        name: (scores(confusions[name], names)["miou"], same[name] / pixels, largest[name])
        for name in networks
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="models")
    parser.add_argument("--tiles", type=Path, default=Path("data/tiles"))
    parser.add_argument("--calibration", type=int, default=16, help="train tiles for int8")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = load_model(options.model, Path())
    tile_set = model.tile_set
    images = TileReader(options.tiles / "images", tile_set.size_px, 0)
    masks = TileReader(options.tiles / "masks", tile_set.size_px, IGNORE_INDEX)
    by_split: dict[str, list[Tile]] = {"train": [], "val": [], "test": []}
    for tile in read_index(options.tiles / "index.csv"):
        by_split[tile.split].append(tile)

    def read(tile: Tile) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(images.read(tile)), torch.from_numpy(masks.read(tile)[0])

    networks: dict[str, nn.Module] = {"PyTorch": model.segmenter.eval()}
    windows = [images.read(tile) for tile in by_split["train"][: options.calibration]]
    with tempfile.TemporaryDirectory() as place:
        for label, calibration in (("fp32", []), ("int8", windows)):
            path = Path(place) / f"{label}.onnx"
            export_model(model, path, calibration=calibration)
            for engine in find_engines():
                content = read_onnx(path)[0].content
                runs = OnnxNetwork(content, len(tile_set.bands), engine)
                networks[f"{runs.engine} {label}"] = OnnxSegmenter(runs)
            print(f"{label}: {path.stat().st_size / 1e6:.1f} MB")
    batch = torch.stack([read(tile)[0] for tile in by_split["test"][:BATCH]])
    with torch.inference_mode():
        times = time_in_turns(networks, batch, options.rounds)
        judged = judge(networks, by_split["test"], read, tile_set.classes.names)
    network = model.checkpoint.network
    print(
        f"{network.model} with {network.encoder}, {BATCH} tiles of "
        f"{tile_set.size_px} px at a time, {torch.get_num_threads()} thread(s), "
        f"{torch.backends.cpu.get_cpu_capability()}, mIoU of {len(by_split['test'])} test tiles"
    )
    print(f"{'':28}{'s':>7}{'CPU s':>8}{'speed':>8}{'mIoU':>9}{'same class':>12}{'largest':>9}")
    base_s = times["PyTorch"][1]
    for name in networks:
        (clock_s, cpu_s), (miou, same, largest) = times[name], judged[name]
        print(
            f"{name:28}{clock_s:7.2f}{cpu_s:8.2f}{base_s / cpu_s:7.2f}×{miou:9.4f}{same:12.3%}"
            f"{largest:9.1e}"
        )


if __name__ == "__main__":
    main()
