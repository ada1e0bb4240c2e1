"""mIoU against clicks of a simulated annotator who follows the page's suggestions, or nobody.

    PYTHONPATH=src python benchmarks/next_points.py valley [--clicks 200] [--seeds 3] [--out FILE]
    PYTHONPATH=src python benchmarks/next_points.py dubai FOLDER [--reduce 3] [--clicks 200]

Features, classifier and suggestions are the page's, without its server, so that a click takes a
tenth of a second of processor time; `labelling.py annotate` drives the server. As there, each class
gets three clicks first, and the images take turns. The answers come from the masks.

`valley` draws three valleys of eight images of 512² px: four are clicked on, four score. `dubai`
takes the first image of each tile, reduced (--reduce), clicks on five and scores on three, twice.
Each valley or half is clicked on with several seeds, from which the differences and their 95 %
intervals come. --balanced-from is the page's setting, 0 for a balance over predicted
classes from the first click on.
"""
# ruff: noqa: T201

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import stats

from pointcover.datasets.synthetic.landscape import draw_orthophoto
from pointcover.labelling.blocks import COARSE, BlockFeatures
from pointcover.labelling.live_classifier import (
    LiveClassifier,
    fit_live,
    make_live_features,
    mean_of,
    table_of,
)
from pointcover.labelling.next_point import choose_next
from pointcover.labelling.point_features import OFFSETS_PX, beside
from pointcover.labelling.settings import LabelSettings
from pointcover.labelling.view import BlockKey, Extent, LabelCount, ViewMap
from pointcover.labels import IGNORE_INDEX
from pointcover.metrics.confusion import scores as score

FIRST = 3
"""Clicks on each class at first."""
CHECKS = (15, 25, 40, 60, 90, 130, 200)
"""Clicks after which the test images are scored."""
SECONDS_A_CLICK = 3.0
VALLEYS = (2026, 2027, 2028)
NAMES = ("background", "building", "woodland", "water", "road")
DUBAI = {0x8429F6: "land", 0xE2A929: "water", 0x3C1098: "building", 0xFEDD3A: "vegetation"} | {
    0x6EC1E4: "road"
}
HALVES = (((1, 2, 3, 4, 5), (6, 7, 8)), ((4, 5, 6, 7, 8), (1, 2, 3)))

Click = tuple[int, int, int, int]
"""Image, row, column and class."""
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class World:
    """Images with features and masks, of which the first `cut` ones are clicked on."""

    names: tuple[str, ...]
    images: Sequence[npt.NDArray[np.uint8]]
    masks: Sequence[Mask]
    cut: int


class Annotator:
    """Clicks on the images of a world."""

    def __init__(self, world: World, changes: dict[str, Any]) -> None:
        """Compute the features of all pixels; take changes of the page's settings."""
        self.world, self.changes = world, changes
        self.features = make_live_features(LabelSettings(), 3)
        self.blocks = []
        for image in world.images:
            size = image.shape[1:]
            valid = np.ones(size, bool)
            extent = Extent(0, 0, *size)
            pixels = torch.from_numpy(image)[None]
            self.blocks.append(BlockFeatures(self.features, pixels, valid, extent))

    def run(self, strategy: str, seed: int, most: int) -> list[float]:
        """Return the mIoU after each number of CHECKS up to `most` clicks."""
        world = self.world
        generator = np.random.default_rng([2, seed])
        settings = LabelSettings(**self.changes, seed=seed)
        clicks = self._first(generator)
        checks = [count for count in CHECKS if count <= most]
        found: list[float] = []
        while True:
            if len(clicks) == checks[len(found)]:
                found.append(self._test(self._fit(clicks, settings)))
                if len(found) == len(checks):
                    return found
            image = len(clicks) % world.cut
            mask = world.masks[image]
            places = self._suggest(image, clicks, settings) if strategy == "suggested" else []
            while True:  # anywhere, if there is no suggestion that has an answer
                row, col = places.pop(0) if places else generator.integers(mask.shape).tolist()
                if mask[row, col] != IGNORE_INDEX:
                    break
            clicks.append((image, row, col, int(mask[row, col])))

    def _first(self, generator: np.random.Generator) -> list[Click]:
        clicks = []
        masks = self.world.masks[: self.world.cut]
        for number in range(FIRST):
            for class_id in range(len(self.world.names)):
                having = [n for n, mask in enumerate(masks) if (mask == class_id).any()]
                image = having[number % len(having)]
                rows, cols = np.nonzero(masks[image] == class_id)
                chosen = generator.integers(len(rows))
                clicks.append((image, int(rows[chosen]), int(cols[chosen]), class_id))
        return clicks

    def _fit(self, clicks: Sequence[Click], settings: LabelSettings) -> LiveClassifier:
        rows = []
        for image, row, col, _ in clicks:
            block = self.blocks[image]
            down, right = torch.tensor(OFFSETS_PX).T
            rows_in = beside(torch.tensor([row]), down, block.height)
            cols_in = beside(torch.tensor([col]), right, block.width)
            rows.append({name: part.numpy() for name, part in block.at(rows_in, cols_in).items()})
        classes = np.array([class_id for *_, class_id in clicks], np.int64)
        pixels = table_of(rows, classes, np.zeros(len(clicks), np.int64))
        return fit_live(self.features, pixels, len(self.world.names), settings)

    def _suggest(
        self, image: int, clicks: Sequence[Click], settings: LabelSettings
    ) -> list[tuple[int, int]]:
        block, names = self.blocks[image], self.world.names
        scored = self._fit(clicks, settings).score_block(block, COARSE)
        assert scored is not None
        ids = mean_of(scored).argmax(dim=0).to(torch.uint8).numpy()
        ids = ids.repeat(COARSE, 0).repeat(COARSE, 1)[: block.height, : block.width]
        extent = Extent(0, 0, block.height, block.width)
        count = LabelCount(len(clicks), 0, 0)
        shown = ViewMap(1, image, 0, extent, ids, np.zeros_like(ids), names, count, 0, 0.0)
        taken: list[Any] = [
            SimpleNamespace(x=col + 0.5, y=row + 0.5, shape=None)
            for of, row, col, _ in clicks
            if of == image
        ]
        labelled = Counter(names[class_id] for *_, class_id in clicks)
        blocks = [(BlockKey(image, 0, 0, 0), scored, COARSE)]
        found = choose_next((shown, blocks), taken, labelled, settings)
        return [(int(one.y), int(one.x)) for one in found]

    def _test(self, classifier: LiveClassifier) -> float:
        count = len(self.world.names)
        confusion = np.zeros((count, count), np.int64)
        pairs = list(zip(self.blocks, self.world.masks, strict=True))
        for block, whole in pairs[self.world.cut :]:
            scored = classifier.score_block(block, COARSE)
            assert scored is not None
            mask = whole[::COARSE, ::COARSE]
            is_known = mask != IGNORE_INDEX
            predicted = mean_of(scored).argmax(dim=0).numpy()[is_known]
            np.add.at(confusion, (mask[is_known], predicted), 1)
        return float(score(confusion, self.world.names)["miou"])


def valley(seed: int) -> World:
    """Draw a valley."""
    drawn = [draw_orthophoto(512, np.random.default_rng([seed, n])) for n in range(8)]
    return World(NAMES, [image for image, _ in drawn], [mask for _, mask in drawn], 4)


def dubai(folder: Path, tiles: tuple[Sequence[int], Sequence[int]], reduce: int) -> World:
    """Read the first image of some tiles, the last ones for the score."""
    images, masks = [], []
    for tile in (*tiles[0], *tiles[1]):
        base = folder / f"Tile {tile}"
        image = Image.open(base / "images" / "image_part_001.jpg").convert("RGB")
        mask = Image.open(base / "masks" / "image_part_001.png").convert("RGB")
        size = image.width // reduce, image.height // reduce
        values = np.array(mask.resize(size, Image.Resampling.NEAREST)).astype(np.int64)
        values = (values << np.array([16, 8, 0])).sum(axis=2)
        ids = np.full(values.shape, IGNORE_INDEX, np.uint8)
        for class_id, value in enumerate(DUBAI):
            ids[values == value] = class_id
        shown = np.array(image.resize(size, Image.Resampling.BOX))
        images.append(shown.transpose(2, 0, 1).copy())
        masks.append(ids)
    return World(tuple(DUBAI.values()), images, masks, len(tiles[0]))


def compare(worlds: Sequence[Callable[[], World]], options: argparse.Namespace) -> None:
    """Print the scores of both strategies, and their difference with its interval."""
    found: dict[str, list[list[float]]] = {"random": [], "suggested": []}
    for number, make in enumerate(worlds):
        annotator = Annotator(make(), {"balanced_from": options.balanced_from})
        for seed in range(1, options.seeds + 1):
            for strategy, runs in found.items():
                runs.append(annotator.run(strategy, seed, options.clicks))
                shown = " ".join(f"{miou:.3f}" for miou in runs[-1])
                print(f"{number} {seed} {strategy:10} {shown}", flush=True)
    random, suggested = (np.array(found[name]) for name in ("random", "suggested"))
    rows = []
    for place, clicks in enumerate(count for count in CHECKS if count <= options.clicks):
        gain = suggested[:, place] - random[:, place]
        half = stats.sem(gain) * stats.t.ppf(0.975, len(gain) - 1) if len(gain) > 1 else np.nan
        rows.append(
            {
                "clicks": clicks,
                "person_s": clicks * SECONDS_A_CLICK,
                "random": round(float(random[:, place].mean()), 3),
                "suggested": round(float(suggested[:, place].mean()), 3),
                "gain": round(float(gain.mean()), 3),
                "half_interval": round(float(half), 3),
            }
        )
        print(rows[-1])
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", choices=("valley", "dubai"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--reduce", type=int, default=3)
    parser.add_argument("--clicks", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    default = LabelSettings().balanced_from
    parser.add_argument("--balanced-from", type=int, default=default)
    parser.add_argument("--only", type=int, help="number of a valley or half, from 0")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    worlds: list[Callable[[], World]]
    if options.images == "valley":
        worlds = [lambda seed=seed: valley(seed) for seed in VALLEYS]  # type: ignore[misc]
    elif options.folder is None:
        parser.error("dubai needs its folder")
    else:
        worlds = [
            lambda half=half: dubai(options.folder, half, options.reduce)  # type: ignore[misc]
            for half in HALVES
        ]
    compare(worlds if options.only is None else [worlds[options.only]], options)


if __name__ == "__main__":
    main()
