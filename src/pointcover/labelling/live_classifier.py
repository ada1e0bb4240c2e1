"""The classifier that follows the clicks: a logistic regression and a small forest."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pointcover.features.settings import FilterBankSettings, LocalStatisticsSettings
from pointcover.labelling.blocks import BAND_PX, BlockFeatures, BlockRows
from pointcover.labelling.point_features import Rows
from pointcover.labelling.settings import LabelSettings
from pointcover.networks.pixel_classifiers.classifier import PixelClassifier, build_head
from pointcover.networks.pixel_classifiers.encoder_weights import describe_encoder, load_encoder
from pointcover.networks.pixel_classifiers.pixel_features import Features, PixelFeatures
from pointcover.networks.pixel_classifiers.settings import BlockName, PixelFeatureSettings
from pointcover.networks.weights_files import find_packaged_weights
from pointcover.training.classifiers.fit import FittedHead, join_heads
from pointcover.training.classifiers.head_settings import LogisticRegressionSettings, TreesSettings
from pointcover.training.classifiers.heads import HEADS
from pointcover.training.classifiers.labelled_pixels import LabelledPixels
from pointcover.training.classifiers.sample_weights import Weights, weight_classes
from pointcover.training.losses.make import balanced_weights

ENCODER: Final = "tf_efficientnet_lite0"
SIGMAS_PX: Final = (0.7, 1.6, 3.5, 10.0)
"""Fewer than in training, since the features of a view are kept in memory."""

FEW: Final = 150
"""Points, with fewer of which pixels around them are used, too."""

INVERSE_PENALTY: Final = 0.003
"""scikit-learn's C, the one that cross-validation chose most often on Dubai."""


def make_live_features(settings: LabelSettings, bands: int) -> PixelFeatures:
    """Build the features of the page; with an encoder only if its weights are installed.

    Args:
        settings: of the project.
        bands: of the images.
    """
    weights = find_packaged_weights(ENCODER) if settings.encoder else None
    features = PixelFeatures(
        PixelFeatureSettings(
            filter_bank=FilterBankSettings(sigmas_px=SIGMAS_PX),
            local_statistics=LocalStatisticsSettings(),
            encoder=describe_encoder(f"tu-{ENCODER}", bands, (2.0,)) if weights else None,
        ),
        bands,
    )
    if weights is not None:
        load_encoder(features, str(weights))
    return features.eval()


def table_of(
    features: Sequence[Rows], classes: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]
) -> LabelledPixels:
    """Return points as labelled pixels, the classes of equal total weight.

    With few points, pixels around them follow, of weight 0: from these a fit learns how features
    vary, and no class.

    Args:
        features: of each point and of pixels around it.
        classes: (P,) class ids.
        groups: (P,) numbers of the places that belong together.
    """
    weights = _balance(classes)
    joined = {block: np.stack([one[block][0] for one in features]) for block in features[0]}
    if len(classes) < FEW:
        around = {block: np.concatenate([one[block][1:] for one in features]) for block in joined}
        times = len(around[next(iter(around))]) // len(classes)
        joined = {block: np.concatenate([joined[block], around[block]]) for block in joined}
        classes = np.concatenate([classes, classes.repeat(times)])
        groups = np.concatenate([groups, groups.repeat(times)])
        weights = np.concatenate([weights, np.zeros(len(classes) - len(weights))])
    return LabelledPixels(joined, classes, groups, weights > 0, weights)


@dataclass(frozen=True)
class LiveClassifier:
    """Heads that were fitted on all points."""

    fitted: tuple[FittedHead, ...]
    heads: tuple[nn.Module, ...]
    classes: int

    @torch.inference_mode()
    def score(self, view: Features) -> Tensor:
        """Return the log-probabilities of each head: (heads, classes, H, W) float32."""
        return torch.stack([head(view).float().log_softmax(dim=1)[0] for head in self.heads])

    @torch.inference_mode()
    def score_block(
        self, block: BlockFeatures, step: int, is_old: Callable[[], bool] = lambda: False
    ) -> Tensor | None:
        """Return the log-probabilities of every `step`-th pixel of a block, in half precision.

        Args:
            block: to score.
            step: 1 for all pixels.
            is_old: whether the result is no longer wanted; then None is returned.
        """
        parts = []
        band_px = BAND_PX * step
        for top in range(0, block.height, band_px):
            if is_old():
                return None
            rows = slice(top, min(top + band_px, block.height))
            parts.append(self.score(BlockRows(block, rows, step)).half())
        return torch.cat(parts, dim=2)

    def join(self, features: PixelFeatures) -> PixelClassifier:
        """Return a pixel classifier that maps whole images."""
        return join_heads(features, self.fitted, self.classes, "arithmetic")


def mean_of(scores: Tensor) -> Tensor:
    """Return log-probabilities of the mean of heads: (heads, classes, …) to (classes, …).

    The mean is that of probabilities: of few trees, none may vote for a class, and the mean of
    logarithms would exclude it.
    """
    return scores.float().logsumexp(dim=0) - math.log(len(scores))


def fit_live(
    features: PixelFeatures, pixels: LabelledPixels, classes: int, settings: LabelSettings
) -> LiveClassifier:
    """Fit the heads; the same points give the same ones.

    Args:
        features: with which those of the points were computed.
        pixels: the points, of one class at least.
        classes: number of classes.
        settings: of the project.
    """
    blocks = features.settings.blocks
    wanted: dict[str, tuple[tuple[BlockName, ...], Any]] = {
        "logistic_regression": (
            ("filter_bank", "encoder"),
            LogisticRegressionSettings(
                inputs=("filter_bank",), inverse_penalties=(INVERSE_PENALTY,), folds=2
            ),
        ),
        "extra_trees": (
            ("filter_bank", "local_statistics"),
            TreesSettings(
                inputs=("filter_bank",), trees=settings.trees, max_depth=10, min_samples_leaf=1
            ),
        ),
    }
    fitted = tuple(
        HEADS[name](
            of_head.model_copy(update={"inputs": tuple(b for b in inputs if b in blocks)}),
            pixels,
            classes,
            settings.seed,
        )
        for name, (inputs, of_head) in wanted.items()
    )
    heads = []
    for of_head, state in fitted:
        head = build_head(of_head, features, classes)
        head.load_state_dict(state, strict=True)
        heads.append(head.eval())
    return LiveClassifier(fitted, tuple(heads), classes)


def take(pixels: LabelledPixels, chosen: npt.NDArray[np.intp]) -> LabelledPixels:
    """Return some of the rows of a table, the classes of their points of equal total weight."""
    classes, is_clicked = pixels.classes[chosen], pixels.is_clicked[chosen]
    weights = np.zeros(len(chosen))
    weights[is_clicked] = _balance(classes[is_clicked])
    return replace(
        pixels,
        features={block: values[chosen] for block, values in pixels.features.items()},
        classes=classes,
        groups=pixels.groups[chosen],
        is_clicked=is_clicked,
        weights=weights,
    )


def _balance(classes: npt.NDArray[np.int64]) -> Weights:
    """Return (P,) weights that give all classes the same total."""
    balanced = balanced_weights(np.bincount(classes).tolist())
    return weight_classes(classes, np.ones(len(classes)), balanced)
