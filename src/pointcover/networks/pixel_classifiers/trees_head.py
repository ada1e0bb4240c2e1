"""Decision trees as tensors: forests and gradient boosting."""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointcover.networks.pixel_classifiers.pixel_features import Features, PixelFeatures
from pointcover.networks.pixel_classifiers.settings import TreesHeadSettings

LEAST_PROBABILITY: Final = 1e-7
"""Probabilities are at least this before their logarithm is taken."""


class TreesHead(nn.Module):
    """Let trees vote.

    All trees lie in tensors of one size, the deepest first. The children of a node lie beside each
    other; a leaf is its own child. A pixel goes to the left child where its feature is at most the
    threshold.
    """

    feature: Tensor
    threshold: Tensor
    child: Tensor
    value: Tensor
    base: Tensor

    def __init__(self, settings: TreesHeadSettings, features: PixelFeatures, classes: int) -> None:
        """Make trees of leaves that are all zero."""
        super().__init__()
        self.settings = settings
        self.classes = classes
        self.features = sum(features.counts(settings.inputs))
        shape = (settings.trees, settings.nodes)
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("threshold", torch.full(shape, math.inf))
        self.register_buffer("child", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("value", torch.zeros(*shape, classes))
        self.register_buffer("base", torch.zeros(classes))

    def forward(self, view: Features) -> Tensor:
        """Score the pixels of a view: log-probabilities or scores (N, classes, H, W)."""
        blocks = [view.dense(block) for block in self.settings.inputs]
        count, _, height, width = blocks[0].shape
        if torch.compiler.is_compiling() or blocks[0].device.type != "cpu":
            pixels = torch.cat(blocks, dim=1).float().permute(0, 2, 3, 1).flatten(0, 2)
            scores = self._score(pixels).view(count, height, width, -1).permute(0, 3, 1, 2)
        else:
            scores = self._walk([block.flatten(2) for block in blocks])
            scores = scores.view(count, -1, height, width)
        if self.settings.output == "score":
            return scores
        return scores.clamp(min=LEAST_PROBABILITY).log()

    def _walk(self, blocks: list[Tensor]) -> Tensor:
        """Do as `_score` on a CPU, several times as fast: (N, features, P) each → (N, classes, P).

        Sums are in the same order, and differ by rounding.
        """
        from pointcover.networks.pixel_classifiers.tree_walk import TreeArrays

        trees = TreeArrays.of(dict(self.named_buffers()), self.features, self.settings.active)
        scores = self.base[:, None].repeat(len(blocks[0]), 1, blocks[0].shape[2])
        for number, votes in enumerate(scores):
            trees.vote([block[number] for block in blocks], votes)
        return scores

    def _score(self, pixels: Tensor) -> Tensor:
        """Add up the leaves that pixels (P, features) come to: (P, classes)."""
        count, (trees, nodes) = pixels.shape[0], self.feature.shape
        first = torch.arange(trees, device=pixels.device) * nodes
        feature, threshold = self.feature.flatten().long(), self.threshold.flatten()
        child = (self.child + first[:, None]).flatten()
        node = first.expand(count, trees)
        arrived: list[Tensor] = []
        # index_select of one dimension: on a CPU many times as fast as indexing with brackets.
        # All trees of a pixel lie beside each other, so that its features stay in the cache.
        for active in self.settings.active:
            if active < node.shape[1]:
                arrived.append(node[:, active:])
                node = node[:, :active]
            flat = node.flatten()
            column = feature.index_select(0, flat).view(count, active)
            is_right = pixels.gather(1, column).flatten() > threshold.index_select(0, flat)
            node = (child.index_select(0, flat) + is_right).view(count, active)
        leaf = torch.cat([node, *reversed(arrived)], dim=1)
        leaves = self.value.flatten(0, 1)
        if torch.compiler.is_compiling():
            voted = leaves.index_select(0, leaf.flatten()).view(count, trees, -1).sum(dim=1)
        else:
            voted = functional.embedding_bag(leaf, leaves, mode="sum")
        return voted + self.base
