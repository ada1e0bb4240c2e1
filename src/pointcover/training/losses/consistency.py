"""Consistency: the student, shown strong colours, should see what the teacher is sure of."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from pointcover.labels import IGNORE_INDEX
from pointcover.training.strong_augmentation import StrongColours


@dataclass(frozen=True)
class ConsistencySettings:
    """How much the student's agreement with the teacher counts, and what each is asked."""

    weight: float = 0.0
    """Beside the loss on labelled pixels; 0 leaves it out."""
    threshold: float = 0.9
    colours: StrongColours = field(default_factory=StrongColours)


def weak_to_strong(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    threshold: float,
    usable: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take the student's cross-entropy to the teacher's hard labels where those are sure.

    After Sohn et al. 2020, "FixMatch", by pixel as in Yang et al. 2023, "UniMatch"; but averaged
    over the pixels that pass, not over all.

    Args:
        student: (B, C, H, W) logits of the strongly augmented images.
        teacher: (B, C, H, W) logits of the same crops, weakly augmented; no gradient goes there.
        mask: (B, H, W) uint8; labelled pixels are left to the loss on labels.
        threshold: a pixel passes with a probability of at least this, above 0 and at most 1.
        usable: (B, H, W) bool, False where the student cannot see (cutout, padding); None is all.

    Returns:
        The loss, a float32 scalar (0 with zero gradients where no pixel passes), and the share of
        the unlabelled usable pixels that passed, a detached float32 scalar.

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
        asked = mask == IGNORE_INDEX
        if usable is not None:
            asked &= usable
        passed = asked & (confidence >= threshold)
        places = torch.nonzero(passed, as_tuple=True)
        share = len(places[0]) / asked.sum().clamp_min(1).float()
    tile, row, column = places
    chosen = student[tile, :, row, column].float()
    total = functional.cross_entropy(chosen, labels[places], reduction="sum")
    return total / max(1, len(tile)), share
