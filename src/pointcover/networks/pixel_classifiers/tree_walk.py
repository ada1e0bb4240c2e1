"""Lead pixels through decision trees on a CPU, in machine code that numba compiles.

One tree after the other, level by level, all pixels of a block: so the nodes and the features stay
in the processor's cache, and no pixel waits for another one's branch.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pointcover.runtime.machine_code import compiled

CHUNK: Final = 256
"""Pixels of a block."""

BLOCKS: Final = 16
"""Blocks whose features are copied at once."""

_WORD: Final = 32
"""Bits of a node, its feature and its left child, if these fit; otherwise twice as many."""

Floats = npt.NDArray[np.float32]


class TreeArrays(NamedTuple):
    """Trees of one size in arrays; see TreesHead."""

    nodes: npt.NDArray[np.unsignedinteger[Any]]
    """(trees, nodes): the left child in the upper bits, the feature in the lower ones."""
    threshold: Floats
    value: Floats
    """(trees, nodes, classes)."""
    depth: npt.NDArray[np.int64]
    """Of each tree."""
    bits: np.uint32
    """Of a feature's number."""

    @classmethod
    def of(
        cls, buffers: Mapping[str, Tensor], features: int, active: Sequence[int]
    ) -> "TreeArrays":
        """Arrange the buffers of a TreesHead.

        Args:
            buffers: by name.
            features: how many there are.
            active: how many trees are deeper than each level.
        """
        feature, child, threshold, value = (
            buffers[name].numpy() for name in ("feature", "child", "threshold", "value")
        )
        bits = max(1, (features - 1).bit_length())
        is_small = bits + feature.shape[1].bit_length() <= _WORD
        word = np.uint32 if is_small else np.uint64
        joined = (child.astype(np.uint64) << np.uint64(bits)) | feature.astype(np.uint64)
        depth = (np.array(active, np.int64)[:, None] > np.arange(len(child))).sum(0)
        return cls(joined.astype(word), threshold, value, depth, np.uint32(bits))

    def vote(self, blocks: list[Tensor], votes: Tensor) -> None:
        """Add the leaves that pixels come to.

        Args:
            blocks: (features, P) each, the features of all of them in the trees' order.
            votes: (classes, P) float32, contiguous; changed.
        """
        threads = max(1, torch.get_num_threads())
        count = votes.shape[1]
        starts = range(0, count, CHUNK * BLOCKS)
        if threads == 1 or len(starts) == 1:
            self._vote(blocks, votes.numpy(), starts)
            return
        with ThreadPoolExecutor(threads) as pool:
            parts = [starts[number::threads] for number in range(threads)]
            list(pool.map(lambda part: self._vote(blocks, votes.numpy(), part), parts))

    def _vote(self, blocks: list[Tensor], votes: Floats, starts: range) -> None:
        for start in starts:
            chosen = slice(start, start + CHUNK * BLOCKS)
            pixels = torch.cat([block[:, chosen] for block in blocks]).float().numpy()
            _add_votes(pixels, self, votes[:, chosen])


@compiled
def _add_votes(pixels: Floats, trees: TreeArrays, votes: Floats) -> None:
    # Unsigned numbers throughout: numba would check others for negative indexes.
    mask = np.uint32((np.uint32(1) << trees.bits) - np.uint32(1))
    block = np.empty(pixels.shape[0] * CHUNK, np.float32)
    node = np.empty(CHUNK, np.uint32)
    for start in range(0, pixels.shape[1], CHUNK):
        count = np.uint32(min(CHUNK, pixels.shape[1] - start))
        for feature in range(pixels.shape[0]):
            line, copied = pixels[feature, start:], block[feature * CHUNK :]
            for pixel in range(count):
                copied[pixel] = line[pixel]
        for tree in range(len(trees.depth)):
            words, limits, leaves = trees.nodes[tree], trees.threshold[tree], trees.value[tree]
            node[:] = np.uint32(0)
            for _ in range(trees.depth[tree]):
                for pixel in range(count):
                    at = node[pixel]
                    word = words[at]
                    found = block[np.uint32(word & mask) * np.uint32(CHUNK) + np.uint32(pixel)]
                    node[pixel] = np.uint32(word >> trees.bits) + np.uint32(found > limits[at])
            for number in range(votes.shape[0]):
                row = votes[number, start:]
                for pixel in range(count):
                    row[pixel] += leaves[node[pixel], number]
