"""Losses on sparse masks equal the dense ones of torch, and nothing else in a tile moves them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from pointcover.labels import IGNORE_INDEX
from pointcover.training.losses import LOSSES
from pointcover.training.losses.make import balanced_weights, make_loss
from pointcover.training.losses.partial import PartialLoss
from tests.train_settings import train_settings

every_loss = pytest.mark.parametrize("name", LOSSES)
partial_cross_entropy = PartialLoss()


def make(name, names=("a", "b", "c", "d", "e"), labelled=(1, 1, 1, 1, 1), **options):
    return make_loss(train_settings(loss=name, **options), names, labelled)


def sparse_batch(seed, *, batch=2, classes=5, height=12, width=9, fraction=0.1):
    """Random logits that want gradients, and a mask with a fraction of its pixels labelled."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(batch, classes, height, width, generator=generator)
    mask = torch.randint(0, classes, (batch, height, width), generator=generator)
    mask[torch.rand(mask.shape, generator=generator) >= fraction] = IGNORE_INDEX
    return logits.requires_grad_(), mask.to(torch.uint8)


def value_and_gradient(loss, logits, mask):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, mask)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def torch_cross_entropy(logits, mask):
    return functional.cross_entropy(logits, mask.long(), ignore_index=IGNORE_INDEX)


# Cross-entropy


@pytest.mark.parametrize("fraction", [0.02, 0.5, 1.0])
@pytest.mark.parametrize(("batch", "classes", "height", "width"), [(2, 5, 12, 9), (1, 2, 1, 64)])
def test_cross_entropy_equals_torchs_dense_one_in_value_and_gradient(
    batch, classes, height, width, fraction
):
    for seed in range(5):
        logits, mask = sparse_batch(
            seed, batch=batch, classes=classes, height=height, width=width, fraction=fraction
        )
        mask[0, 0, 0] = 1  # at least one label
        ours, gradient = value_and_gradient(partial_cross_entropy, logits, mask)
        theirs, wanted = value_and_gradient(torch_cross_entropy, logits, mask)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(gradient, wanted)


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_number_of_classes():
    mask = torch.full((1, 3, 3), IGNORE_INDEX, dtype=torch.uint8)
    mask[0, 1, 2] = 3
    loss = partial_cross_entropy(torch.zeros(1, 4, 3, 3), mask)
    assert loss.item() == pytest.approx(math.log(4))


def test_cross_entropy_worked_out_by_hand_takes_the_mean_over_pixels_not_over_tiles():
    # Tile 0 has two labels, each -log(3/4); tile 1 has one, -log(1/4); the fourth pixel has none.
    logits = torch.zeros(2, 2, 1, 2)
    logits[:, 1] = math.log(3)  # class 1 has 3/4
    mask = torch.tensor([[[1, 1]], [[0, IGNORE_INDEX]]], dtype=torch.uint8)
    wanted = (2 * math.log(4 / 3) + math.log(4)) / 3
    assert partial_cross_entropy(logits, mask).item() == pytest.approx(wanted)


def test_cross_entropy_does_not_mind_memory_format():
    logits, mask = sparse_batch(3)
    ours, gradient = value_and_gradient(partial_cross_entropy, logits, mask)
    last = logits.detach().to(memory_format=torch.channels_last).requires_grad_()
    value = partial_cross_entropy(last, mask)
    value.backward()
    torch.testing.assert_close(value.detach(), ours)
    torch.testing.assert_close(last.grad, gradient)


def test_class_ids_above_127_are_classes():
    logits, _ = sparse_batch(0, classes=255)
    mask = torch.full((2, 12, 9), IGNORE_INDEX, dtype=torch.uint8)
    mask[:, 4, :4] = torch.tensor([128, 200, 253, 254], dtype=torch.uint8)
    torch.testing.assert_close(
        partial_cross_entropy(logits, mask), torch_cross_entropy(logits, mask)
    )


def test_cross_entropy_of_bf16_logits_is_that_of_the_same_numbers_in_fp32():
    logits, mask = sparse_batch(1)
    half = logits.detach().bfloat16()
    loss = partial_cross_entropy(half, mask)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch_cross_entropy(half.float(), mask))


# What every loss promises


@every_loss
@pytest.mark.parametrize("autocast", [False, True])
def test_a_batch_without_labels_gives_zero_and_a_zero_gradient_still_attached(name, autocast):
    network = torch.nn.Conv2d(3, 5, 1)
    mask = torch.full((2, 8, 8), IGNORE_INDEX, dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = make(name)(network(torch.rand(2, 3, 8, 8)), mask)
    assert loss.item() == 0
    assert loss.requires_grad
    loss.backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


@every_loss
@pytest.mark.parametrize("autocast", [False, True])
def test_a_loss_is_one_finite_fp32_number_of_at_least_zero(name, autocast):
    logits, mask = sparse_batch(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = make(name)(logits * 100, mask)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    assert loss.item() >= 0


@every_loss
def test_an_unlabelled_pixel_has_no_say_whatever_its_logits(name):
    logits, mask = sparse_batch(2)
    value, gradient = value_and_gradient(make(name), logits, mask)
    unlabelled = (mask == IGNORE_INDEX)[:, None].expand_as(logits)
    assert torch.count_nonzero(gradient[unlabelled]) == 0
    assert torch.count_nonzero(gradient[~unlabelled]) > 0
    changed = logits.detach().clone()
    changed[unlabelled] = float("nan")
    assert make(name)(changed, mask) == value


@every_loss
def test_right_and_sure_costs_less_than_wrong_and_sure(name):
    mask = torch.zeros(1, 2, 2, dtype=torch.uint8)
    right = torch.zeros(1, 3, 2, 2)
    right[:, 0] = 8
    wrong = torch.zeros(1, 3, 2, 2)
    wrong[:, 1] = 8
    unsure = make(name)(torch.zeros(1, 3, 2, 2), mask)
    assert make(name)(right, mask) < unsure < make(name)(wrong, mask)


@every_loss
def test_a_step_down_its_gradient_lowers_a_loss(name):
    logits, mask = sparse_batch(4)
    value, gradient = value_and_gradient(make(name), logits, mask)
    assert make(name)(logits.detach() - 0.1 * gradient, mask) < value


@every_loss
def test_a_loss_leaves_logits_and_mask_as_they_were(name):
    logits, mask = sparse_batch(5)
    before = logits.detach().clone(), mask.clone()
    make(name)(logits, mask).backward()
    assert torch.equal(logits.detach(), before[0])
    assert torch.equal(mask, before[1])


def test_the_weight_counts_all_pixels_but_the_ignored_ones_with_class_0_among_them():
    mask = torch.tensor([[[0, 255, 2], [255, 0, 1]]], dtype=torch.uint8)
    assert partial_cross_entropy.weight(mask).item() == 4
    assert partial_cross_entropy.weight(mask, labelled=4).item() == 4
    by_class = PartialLoss(class_weights=(1, 10, 100))
    assert by_class.weight(mask).item() == 112


@pytest.mark.parametrize("by_class", [None, (0.1, 1.0, 2.0, 5.0, 0.5)])
def test_means_of_parts_by_their_share_of_the_weight_are_the_mean_of_the_whole(by_class):
    logits, mask = sparse_batch(8, batch=4, fraction=0.3)
    mask[0] = IGNORE_INDEX
    loss = PartialLoss(gamma=1.0, class_weights=by_class)
    parts = [slice(0, 1), slice(1, 2), slice(2, 4)]
    total = sum(loss.weight(mask[part]) for part in parts)
    mean = sum(loss(logits[part], mask[part]) * loss.weight(mask[part]) for part in parts)
    torch.testing.assert_close(mean / total, loss(logits, mask))


# Focal, weights, smoothing


def published_focal(logits, mask, gamma):
    """Lin et al.'s formula with one-hot labels over all pixels; in fp32 its 1 - p can be 0."""
    logits = logits.double()
    labelled = mask != IGNORE_INDEX
    one_hot = functional.one_hot(torch.where(labelled, mask, 0).long(), logits.shape[1])
    one_hot = one_hot.movedim(-1, 1) * labelled[:, None]
    p = logits.softmax(dim=1)
    losses = -(one_hot * (1 - p) ** gamma * p.log()).sum(dim=1)
    return losses.sum() / labelled.sum()


@given(
    seed=st.integers(0, 999),
    gamma=st.sampled_from([0, 0.5, 1, 2, 5]),
    fraction=st.sampled_from([0.05, 0.5, 1]),
)
@settings(max_examples=25, deadline=None)
def test_focal_equals_the_published_formula_in_value_and_gradient(seed, gamma, fraction):
    logits, mask = sparse_batch(seed, fraction=fraction)
    mask[0, 0, 0] = 1
    ours = value_and_gradient(PartialLoss(gamma=gamma), logits, mask)
    theirs = value_and_gradient(lambda x, m: published_focal(x, m, gamma).float(), logits, mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@given(seed=st.integers(0, 999), smoothing=st.sampled_from([0, 0.1, 0.9]), weighted=st.booleans())
@settings(max_examples=25, deadline=None)
def test_class_weights_and_label_smoothing_are_torchs(seed, smoothing, weighted):
    logits, mask = sparse_batch(seed)
    mask[0, 0, 0] = 1
    by_class = (0.1, 1.0, 2.0, 5.0, 0.5) if weighted else None

    def torchs(x, m):
        weight = torch.tensor(by_class) if weighted else None
        return functional.cross_entropy(
            x, m.long(), weight, ignore_index=IGNORE_INDEX, label_smoothing=smoothing
        )

    loss = PartialLoss(class_weights=by_class, label_smoothing=smoothing)
    torch.testing.assert_close(
        value_and_gradient(loss, logits, mask), value_and_gradient(torchs, logits, mask)
    )


@every_loss
def test_neither_the_order_of_pixels_nor_that_of_classes_matters(name):
    logits, mask = sparse_batch(7)
    value = make(name)(logits, mask)
    places = torch.randperm(mask.shape[2], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(make(name)(logits[..., places], mask[..., places]), value)
    back = torch.where(mask == IGNORE_INDEX, mask, 4 - mask)
    torch.testing.assert_close(make(name)(logits.flip(1), back), value)


@pytest.mark.parametrize("gamma", [0.5, 1, 2])
def test_focal_of_a_pixel_that_is_surely_right_has_a_finite_gradient(gamma):
    logits = torch.tensor([200.0, 0.0]).reshape(1, 2, 1, 1)
    value, gradient = value_and_gradient(
        PartialLoss(gamma=gamma), logits, torch.zeros(1, 1, 1, dtype=torch.uint8)
    )
    assert value == 0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"gamma": -1},
        {"gamma": math.nan},
        {"label_smoothing": 1},
        {"class_weights": (1, 0)},
        {"class_weights": (1, math.inf)},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="give"):
        PartialLoss(**wrong)


def test_a_loss_is_made_by_name_with_weights_by_class_name():
    names = ("land", "water", "road")
    assert make("cross_entropy", names) == partial_cross_entropy
    assert make("focal", names) == PartialLoss(gamma=2.0)
    by_name = {"road": 3, "land": 0.5}
    made = make("focal", names, gamma=0.5, class_weights=by_name, label_smoothing=0.1)
    assert made == PartialLoss(0.5, (0.5, 1.0, 3), 0.1)


def test_balanced_weights_are_scikit_learns_and_are_multiplied_by_those_by_name():
    counts = (700, 0, 30, 4)
    labels = np.repeat(range(4), counts)
    wanted = compute_class_weight("balanced", classes=np.array([0, 2, 3]), y=labels)
    weights = balanced_weights(counts)
    assert [weights[0], *weights[2:]] == pytest.approx(wanted)
    assert weights[1] == 1  # it has no label, so the weight has no effect
    names = ("land", "water", "road", "house")
    balanced = {"class_weighting": "balanced"}
    assert make("cross_entropy", names, counts, **balanced).class_weights == weights
    made = make("cross_entropy", names, counts, class_weights={"house": 2}, **balanced)
    assert made.class_weights == (*weights[:3], 2 * weights[3])
    roots = make("cross_entropy", names, counts, class_weighting="square_root").class_weights
    assert roots == pytest.approx(np.sqrt(weights))


def test_a_weight_of_an_unknown_class_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="name lava, wanted names among land, water"):
        make("cross_entropy", ("land", "water"), class_weights={"lava": 2, "land": 1})


def test_what_does_not_fit_the_logits_is_refused_with_both_sizes():
    logits, mask = sparse_batch(0)
    with pytest.raises(ValueError, match="2 values for 5 classes"):
        PartialLoss(class_weights=(1, 2))(logits, mask)
    with pytest.raises(ValueError, match=r"mask is \(2, 3, 3\)"):
        partial_cross_entropy(logits, mask[:2, :3, :3])
