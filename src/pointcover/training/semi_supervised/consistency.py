"""Consistency with the EMA teacher, on unlabelled pixels.

The teacher sees a crop as it is, the student with strong augmentation. The student learns the
teacher's class wherever the teacher gives it a high probability.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointcover.labels import IGNORE_INDEX
from pointcover.training.semi_supervised.settings import ConsistencySettings
from pointcover.training.semi_supervised.strong_augmentation import strengthen
from pointcover.training.semi_supervised.term import TermInput, has_data


@dataclass(frozen=True)
class Consistency:
    """The consistency term of the loss."""

    settings: ConsistencySettings
    has_own_pass = True

    @property
    def weight(self) -> float:
        """Weight beside the loss on labelled pixels."""
        return self.settings.weight

    def loss(self, batch: TermInput) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and the fraction of unlabelled pixels above the threshold."""
        with torch.no_grad():
            targets = batch.teacher(batch.images)
        strong, is_visible = strengthen(batch.images, batch.generator, self.settings)
        is_visible &= has_data(batch.images)
        with frozen_statistics(batch.model):
            logits = batch.network(strong)
        threshold = self.settings.threshold
        loss, fraction = weak_to_strong(logits, targets, batch.masks, threshold, is_visible)
        return loss, {"consistency_loss": loss.detach(), "consistency_fraction": fraction}


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by batch statistics within the block, without updating the running statistics.

    Those are for images without strong augmentation, on which the network is used.
    """
    layers = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    # SyncBatchNorm needs these counts, so they are restored.
    counts = [one.num_batches_tracked for one in layers if one.num_batches_tracked is not None]
    before = [count.clone() for count in counts]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for count, value in zip(counts, before, strict=True):
            count.copy_(value)


def weak_to_strong(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    threshold: float,
    usable: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the student's cross-entropy to the teacher's hard labels of high probability.

    After Sohn et al. 2020, "FixMatch", by pixel as in Yang et al. 2023, "UniMatch"; but averaged
    over the pixels above the threshold, not over all.

    Args:
        student: (B, C, H, W) logits of the strongly augmented images.
        teacher: (B, C, H, W) logits of the same crops, weakly augmented; it gets no gradient.
        mask: (B, H, W) uint8; labelled pixels are left out.
        threshold: smallest probability of the teacher's class, above 0 and at most 1.
        usable: (B, H, W) bool, False where pixels are left out (cutout, no data); None is all.

    Returns:
        The loss, a float32 scalar (0 with zero gradients without such pixels), and their fraction
        of the unlabelled usable pixels, a detached float32 scalar.

    Raises:
        ValueError: the threshold is out of bounds, or shapes differ.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}: give one above 0 and at most 1")
    pixels = (len(student), *student.shape[2:])
    if student.shape != teacher.shape or mask.shape != pixels:
        raise ValueError(
            f"student {tuple(student.shape)}, teacher {tuple(teacher.shape)}, mask "
            f"{tuple(mask.shape)}: pass logits of one shape and a mask of {pixels}"
        )
    with torch.no_grad():
        confidence, labels = teacher.float().softmax(dim=1).max(dim=1)
        candidates = mask == IGNORE_INDEX
        if usable is not None:
            candidates &= usable
        passed = candidates & (confidence >= threshold)
        places = torch.nonzero(passed, as_tuple=True)
        fraction = len(places[0]) / candidates.sum().clamp_min(1).float()
    tile, row, column = places
    chosen = student[tile, :, row, column].float()
    total = functional.cross_entropy(chosen, labels[places], reduction="sum")
    return total / max(1, len(tile)), fraction
