"""DPT (Ranftl, Bochkovskiy, Koltun 2021): dense predictions from a vision transformer."""

from collections.abc import Sequence

from segmentation_models_pytorch.base import initialization
from segmentation_models_pytorch.decoders.dpt.decoder import (
    DPTDecoder,
    DPTSegmentationHead,
    FusionBlock,
)
from torch import Tensor, nn
from torch.nn import functional

from pointcover.networks.vision_transformer import LEVELS, VisionTransformer


class DPT(nn.Module):
    """The dense head of DPT on four blocks of a vision transformer (arXiv:2103.13413).

    Unlike in segmentation-models-pytorch, features are enlarged with `align_corners=False`: then
    they lie at the same place of the image in windows of any size. The class token is not added to
    them, since it differs from window to window.
    """

    def __init__(
        self,
        encoder: str,
        *,
        in_channels: int,
        classes: int,
        decoder_intermediate_channels: Sequence[int],
        decoder_fusion_channels: int,
    ) -> None:
        """Build the network with random weights; `encoder` is tu- and a name of timm."""
        super().__init__()
        self.encoder = VisionTransformer(encoder.removeprefix("tu-"), in_channels)
        self.decoder = DPTDecoder(
            encoder_out_channels=[self.encoder.channels] * LEVELS,
            encoder_output_strides=[self.encoder.stride_px] * LEVELS,
            encoder_has_prefix_tokens=False,
            readout="ignore",
            intermediate_channels=decoder_intermediate_channels,
            fusion_channels=decoder_fusion_channels,
        )
        self.decoder.fusion_blocks = nn.ModuleList(
            _Fusion(decoder_fusion_channels) for _ in range(LEVELS)
        )
        self.segmentation_head = DPTSegmentationHead(decoder_fusion_channels, classes).head
        initialization.initialize_decoder(self.decoder)
        initialization.initialize_head(self.segmentation_head)

    def forward(self, images: Tensor) -> Tensor:
        """Score images (B, in_channels, H, W) → logits (B, classes, H, W); H, W multiples of 32."""
        decoded = self.decoder(self.encoder(images), [None] * LEVELS)
        return _enlarge(self.segmentation_head(decoded))


class _Fusion(FusionBlock):  # type: ignore[misc, unused-ignore]
    """Fuse a level with those below it, and double its height and width."""

    def forward(self, feature: Tensor, previous_feature: Tensor | None = None) -> Tensor:
        """Fuse features of the same size; the lowest level has none below it."""
        fused = self.residual_conv_block1(feature)
        if previous_feature is not None:
            fused = fused + previous_feature
        # The convolution of 1 × 1 px comes first: the result is the same, in a quarter of the time.
        enlarged: Tensor = _enlarge(self.project(self.residual_conv_block2(fused)))
        return enlarged


def _enlarge(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
