"""The student learns from the teacher's sure, unlabelled, visible pixels and from no other."""

import math

import pytest
import torch

from pointcover.labels import IGNORE_INDEX
from pointcover.training.semi_supervised.consistency import weak_to_strong


def batch():
    """Teacher: sure of 1, sure of 0, unsure, sure of 1 but labelled. Student: undecided."""
    teacher = torch.tensor([[0.0, 9.0, 0.0, 0.0], [9.0, 0.0, 1.0, 9.0]]).reshape(1, 2, 1, 4)
    mask = torch.tensor([[[IGNORE_INDEX] * 3 + [0]]], dtype=torch.uint8)
    student = torch.zeros(1, 2, 1, 4)
    student[0, 1, 0, 0] = math.log(3)
    return student.requires_grad_(), teacher.requires_grad_(), mask


def test_the_mean_is_over_the_pixels_that_pass():
    student, teacher, mask = batch()
    loss, fraction = weak_to_strong(student, teacher, mask, 0.9)
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert fraction.item() == pytest.approx(2 / 3)
    loss.backward()
    assert teacher.grad is None
    assert (student.grad[0, 0, 0] != 0).tolist() == [True, True, False, False]


def test_what_was_cut_out_is_left_out_of_loss_and_share():
    student, teacher, mask = batch()
    usable = torch.tensor([[[False, True, True, True]]])
    loss, fraction = weak_to_strong(student, teacher, mask, 0.9, usable)
    assert loss.item() == pytest.approx(math.log(2))
    assert fraction.item() == pytest.approx(1 / 2)


@pytest.mark.parametrize("nothing", ["sure", "unlabelled"])
def test_where_nothing_passes_loss_gradient_and_share_are_zero(nothing):
    student, teacher, mask = batch()
    if nothing == "sure":
        teacher = torch.zeros_like(teacher)
    else:
        mask = torch.zeros_like(mask)
    loss, fraction = weak_to_strong(student, teacher, mask, 0.9)
    assert (loss.item(), fraction.item()) == (0, 0)
    assert not torch.autograd.grad(loss, student)[0].any()


def test_a_threshold_out_of_bounds_is_refused():
    student, teacher, mask = batch()
    with pytest.raises(ValueError, match="above 0"):
        weak_to_strong(student, teacher, mask, 0)
