"""Corrected logits are Bayes' rule with the ground's fractions."""

import pytest
import torch

from pointcover.prediction.priors import check_priors, correct_logits, make_correction, parse_priors
from pointcover.prediction.settings import PriorSettings


def test_the_corrected_posterior_is_that_of_bayes_rule_worked_out_by_hand():
    # A pixel's colour has likelihood 0.6 in water, 0.2 in forest. Labels were half and half, so
    # the network says 3/4 water; on the ground 10 % is water: 0.06 / (0.06 + 0.18) = 1/4.
    logits = torch.log(torch.tensor([0.75, 0.25])).reshape(1, 2, 1, 1)
    corrected = correct_logits(logits, (0.1, 0.9), (0.5, 0.5))
    torch.testing.assert_close(corrected.softmax(1).flatten(), torch.tensor([0.25, 0.75]))
    assert torch.equal(correct_logits(logits, (0.1, 0.9), (0.5, 0.5), tau=0), logits)


def test_priors_are_in_the_order_of_the_classes_and_sum_to_one():
    priors = check_priors({"water": 0.3, "forest": 0.695}, ("forest", "water"))
    assert priors == pytest.approx((0.695 / 0.995, 0.3 / 0.995))


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"a": 1.0}, "lack"),
        ({"a": 0.5, "b": 0.4, "c": 0.1}, "unknown"),
        ({"a": 1.0, "b": 0.0}, "above 0"),
        ({"a": 0.5, "b": 0.52}, "sum to 1.02"),
        ({"a": float("nan"), "b": 0.5}, "above 0"),
    ],
)
def test_invalid_priors_are_refused(fractions, message):
    with pytest.raises(ValueError, match=message):
        check_priors(fractions, ("a", "b"))


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_a_correction_uses_ordered_priors_and_the_models_label_fractions(
    strength,
):
    priors = PriorSettings(fractions={"b": 0.9, "a": 0.1}, strength=strength)
    correct = make_correction(priors, "here", ("a", "b"), (0.25, 0.75))
    logits = torch.zeros(1, 2, 1, 1)
    wanted = torch.log(torch.tensor([0.1 / 0.25, 0.9 / 0.75])) * strength
    torch.testing.assert_close(correct(logits).flatten(), wanted)


@pytest.mark.parametrize(
    ("label_fractions", "message"),
    [
        (None, "here does not hold the fraction of each class in training .*: train it again"),
        (
            (1.0, 0.0),
            r"here was trained without labels of \['b'\], so priors cannot",
        ),
        ((0.5, float("nan")), r"without labels of \['b'\]"),
    ],
)
def test_a_model_that_cannot_be_corrected_is_named_with_what_to_do(label_fractions, message):
    with pytest.raises(ValueError, match=message):
        make_correction(
            PriorSettings(fractions={"a": 0.5, "b": 0.5}), "here", ("a", "b"), label_fractions
        )


def test_priors_of_other_classes_than_the_models_are_refused():
    with pytest.raises(ValueError, match="priors lack"):
        make_correction(PriorSettings(fractions={"a": 1.0}), "here", ("a", "b"), (0.5, 0.5))


def test_priors_are_parsed_with_any_spaces_and_names():
    text = "wood & heath = 0.6, a=b=0.3,road=1e-1"
    assert parse_priors(text) == {"wood & heath": 0.6, "a=b": 0.3, "road": 0.1}


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "''"),
        ("a", "'a'"),
        ("a=0.5,", "''"),
        ("a=0.5,b=half", "'b=half'"),
        ("=0.5", "'=0.5'"),
        ("a=0.5,a=0.5", "'a=0.5'"),
        ("a=nan", "'a=nan'"),
    ],
)
def test_a_text_without_priors_is_refused(text, got):
    with pytest.raises(ValueError, match="wanted each class once with its fraction") as caught:
        parse_priors(text)
    assert str(caught.value).startswith(f"--priors: got {got} in ")
