"""Smooth planes with a Gaussian: loops in machine code on a CPU, elsewhere tensor operations."""

import torch
from torch import Tensor

from pointcover.features.gaussian import Part, filter_axis, whole_of


def smooth(planes: Tensor, sigma_px: float, part: Part | None = None) -> Tensor:
    """Smooth (P, H, W) planes, float32, with a Gaussian; of a part, only its rows and columns."""
    rows, cols = part = part or whole_of(planes)
    if planes.device.type != "cpu" or torch.compiler.is_compiling():
        down = filter_axis(planes, sigma_px, 0, 1)
        return filter_axis(down, sigma_px, 0, 2)[:, rows, cols]
    from pointcover.features.filter_loops import smooth_planes

    smoothed = torch.empty(len(planes), rows.stop - rows.start, cols.stop - cols.start)
    smooth_planes(planes.detach().contiguous().numpy(), sigma_px, part, smoothed.numpy())
    return smoothed
