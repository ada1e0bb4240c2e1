"""Run ONNX files as networks of torch, together with others."""

import torch
from torch import Tensor, nn

from pointcover.models.onnx_model import OnnxNetwork


class OnnxSegmenter(nn.Module):
    """The network of an ONNX file, with the interface of a `Segmenter`; it cannot be trained."""

    def __init__(self, network: OnnxNetwork) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images: (B, bands, H, W) uint8 → (B, C, H, W) float32.

        The logits are logarithms of probabilities. The network runs on the CPU, whatever the
        images' device. Within bf16 autocast, OpenVINO computes in bf16.

        Raises:
            ValueError: H or W is not a multiple of 32, or the number of bands is wrong.
        """
        in_bf16 = torch.is_autocast_enabled(images.device.type)
        probabilities = self.network.probabilities(images.cpu().numpy(), in_bf16=in_bf16)
        return torch.tensor(probabilities).log().to(images.device)
