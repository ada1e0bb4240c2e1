"""Corrected logits are Bayes' rule with the ground's shares."""

import pytest
import torch

from pointcover.priors import check_priors, correct_logits, count_shares


def test_the_corrected_posterior_is_that_of_bayes_rule_worked_out_by_hand():
    # A pixel's colour has likelihood 0.6 in water, 0.2 in forest. Labels were half and half, so
    # the network says 3/4 water; on the ground 10 % is water: 0.06 / (0.06 + 0.18) = 1/4.
    logits = torch.log(torch.tensor([0.75, 0.25])).reshape(1, 2, 1, 1)
    corrected = correct_logits(logits, (0.1, 0.9), (0.5, 0.5))
    torch.testing.assert_close(corrected.softmax(1).flatten(), torch.tensor([0.25, 0.75]))
    assert torch.equal(correct_logits(logits, (0.1, 0.9), (0.5, 0.5), tau=0), logits)


def test_shares_given_by_name_come_in_the_order_of_the_classes_and_sum_to_one():
    priors = check_priors({"water": 0.3, "forest": 0.695}, ("forest", "water"))
    assert priors == pytest.approx((0.695 / 0.995, 0.3 / 0.995))
    assert count_shares([30, 10], ("a", "b")) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"a": 1.0}, "lack"),
        ({"a": 0.5, "b": 0.4, "c": 0.1}, "unknown"),
        ({"a": 1.0, "b": 0.0}, "above 0"),
        ({"a": 0.5, "b": 0.52}, "sum to 1.02"),
        ({"a": float("nan"), "b": 0.5}, "above 0"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares, message):
    with pytest.raises(ValueError, match=message):
        check_priors(shares, ("a", "b"))


def test_a_class_without_a_label_cannot_be_corrected():
    with pytest.raises(ValueError, match="b"):
        count_shares([3, 0], ("a", "b"))
