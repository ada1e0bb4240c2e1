"""EMA weights: an exponential moving average of a network's weights (Polyak averaging)."""

import copy
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pointcover.networks.segmenter import Segmenter


class EmaWeights:
    """A copy of a network whose weights and buffers are the EMA of the network's.

    The decay rises from 0.1 at first, as in tf.train.ExponentialMovingAverage. torch's
    AveragedModel is not used because it synchronises with a GPU at each update (2.10 to 2.15).
    """

    def __init__(self, model: Segmenter, decay: float) -> None:
        """Copy a network, which stays on its device.

        Args:
            model: whose weights are averaged.
            decay: weight of the average at an update, which the rising decay does not exceed.
        """
        self.network = copy.deepcopy(model)
        self._decay = decay
        self._updates = 0
        states = (one.state_dict().values() for one in (self.network, model))
        pairs = list(zip(*states, strict=True))
        self._weights = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Average the network's weights in; the first update copies them."""
        count = self._updates
        decay = min(self._decay, (1 + count) / (10 + count)) if count else 0.0
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average([mean for mean, _ in self._weights], [value for _, value in self._weights], count)
        for mean, value in self._counts:
            mean.copy_(value)  # batch normalisation's count of batches
        self._updates += 1

    def state(self) -> dict[str, Any]:
        """Return the state after the last update; later updates change its tensors."""
        return {"network": self.network.state_dict(), "updates": self._updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.network.load_state_dict(state["network"])
        self._updates = state["updates"]
