"""Ranks and accumulated steps learn what one step with the whole batch learns."""

import pytest
import torch
from torch import distributed

from pointcover.losses import LOSSES, PartialLoss, mean_over_ranks
from tests.test_losses import IGNORE_INDEX, sparse_batch


def small_network():
    torch.manual_seed(0)
    return torch.nn.Conv2d(3, 5, 3)


def ranks_batch(one_rank_unlabelled):
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(4, 3, 8, 8, generator=generator)
    _, mask = sparse_batch(3, batch=4, height=6, width=6, share=0.4)
    mask[:2, 3:] = IGNORE_INDEX  # the ranks have unlike numbers of labels
    if one_rank_unlabelled:
        mask[:2] = IGNORE_INDEX
    weights = torch.rand(mask.shape, generator=generator)
    return images, mask, weights


def run_rank(rank, folder, one_rank_unlabelled):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    network = torch.nn.parallel.DistributedDataParallel(small_network())
    images, mask, weights = (x[2 * rank : 2 * rank + 2] for x in ranks_batch(one_rank_unlabelled))
    part = LOSSES["focal"].sum(network(images), mask, weights)
    loss = mean_over_ranks(part)
    loss.backward()
    loss = loss.detach() / 2
    distributed.all_reduce(loss)
    torch.save((loss, network.module.weight.grad), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("one_rank_unlabelled", [False, True])
def test_two_ranks_learn_what_one_with_the_doubled_batch_learns(tmp_path, one_rank_unlabelled):
    torch.multiprocessing.spawn(run_rank, (str(tmp_path), one_rank_unlabelled), nprocs=2)
    network = small_network()
    images, mask, weights = ranks_batch(one_rank_unlabelled)
    wanted = LOSSES["focal"](network(images), mask, weights)
    wanted.backward()
    for rank in range(2):
        loss, gradient = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(loss, wanted.detach(), rtol=0, atol=1e-6)
        torch.testing.assert_close(gradient, network.weight.grad, rtol=0, atol=1e-6)


def test_accumulated_steps_learn_what_one_step_with_all_of_them_learns():
    network, images, mask, weights = small_network(), *ranks_batch(False)
    loss = PartialLoss(class_weights=(1, 2, 3, 4, 5))
    loss(network(images), mask, weights).backward()
    wanted, network.weight.grad = network.weight.grad, None
    whole = loss.weight(mask, weights)
    for part in (slice(0, 1), slice(1, 4)):
        mean_over_ranks(
            loss.sum(network(images[part]), mask[part], weights[part]), whole
        ).backward()
    torch.testing.assert_close(network.weight.grad, wanted, rtol=0, atol=1e-6)
