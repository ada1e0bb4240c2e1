"""What it costs to let trees vote: scikit-learn beside the tensors of a TreesHead, on one core.

Run it with ``PYTHONPATH=src python benchmarks/trees.py`` (a minute on an idle core); ``--quick``
runs it small. Both ways run in turns, each time is the best of its rounds: trust the ratios.
"""
# ruff: noqa: T201

import argparse
import time

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from pointcover.networks.pixel_classifiers.pixel_features import PixelFeatures
from pointcover.networks.pixel_classifiers.settings import PixelFeatureSettings
from pointcover.networks.pixel_classifiers.trees_head import TreesHead
from pointcover.training.classifiers.head_settings import TreesSettings
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.trees import fit_forest

CLASSES = 5


class View:
    """Features that are there already."""

    def __init__(self, features: torch.Tensor) -> None:
        """Keep (N, features, H, W)."""
        self._features = features

    def dense(self, _: str) -> torch.Tensor:
        """Return them."""
        return self._features


def draw(count: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw features of classes that overlap, as those of pixels do."""
    generator = np.random.default_rng(0)
    classes = generator.integers(0, CLASSES, count)
    means = generator.normal(0, 0.35, (CLASSES, features))
    table = means[classes] + generator.normal(0, 1, (count, features))
    return table.astype(np.float32), classes


def main() -> None:
    """Print seconds for a megapixel."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="run everything once, and small")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    features = PixelFeatures(PixelFeatureSettings(), bands=3)
    count = features.counts(["filter_bank"])[0]
    side = 32 if quick else 256
    seen, _ = draw(side * side, count)
    view = View(torch.from_numpy(seen.T.reshape(1, count, side, side).copy()))
    print(
        f"100 trees, {count} features, {CLASSES} classes{'scikit-learn':>20}{'tensors':>10}{'':8}"
    )
    for kind in ("random_forest", "extra_trees"):
        for labels in (1_000, 5_000):
            table, classes = draw(labels, count)
            pixels = LabelledPixels(
                {"filter_bank": table},
                classes,
                np.zeros(labels, np.int64),
                np.ones(labels, bool),
                np.ones(labels),
            )
            settings = TreesSettings(
                inputs=("filter_bank",), trees=100, max_depth=12, min_samples_leaf=3
            )
            make = RandomForestClassifier if kind == "random_forest" else ExtraTreesClassifier
            sizes, state = fit_forest(make, settings, pixels, CLASSES, seed=0)
            head = TreesHead(sizes, features, CLASSES)
            head.load_state_dict(state)
            theirs = make(100, max_depth=12, min_samples_leaf=3, random_state=0)
            theirs.fit(table, classes)
            calls = (lambda theirs=theirs: theirs.predict_proba(seen), lambda head=head: head(view))
            best = [np.inf, np.inf]
            for _ in range(1 if quick else 3):
                for number, call in enumerate(calls):
                    start = time.perf_counter()
                    call()
                    best[number] = min(best[number], time.perf_counter() - start)
            simple, ours = (seconds / side**2 * 1e6 for seconds in best)
            print(f"{kind}, {labels} labels{simple:22.2f}{ours:10.2f}{simple / ours:7.1f}x")


if __name__ == "__main__":
    main()
