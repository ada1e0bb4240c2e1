"""Exporting: from a model to an ONNX file that was seen to agree with it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pointcover.models.load import NamedModel
from pointcover.models.onnx_model import (
    IMAGE,
    PROBABILITIES,
    OnnxSegmenter,
    declare_size,
    describe,
    find_engines,
    need_extra,
)
from pointcover.models.quantize import quantise
from pointcover.networks.segmenter import STRIDE_PX, Segmenter
from pointcover.runtime.atomic_files import publish_file
from pointcover.tileset.tiles import WHITE, TileSet

TOLERANCE: Final = 5e-3
"""How far a probability may lie from PyTorch's: half of the percent that a map shows. Rounding
alone, in the pixel that it hurts most, was seen to be 1e-3 (2e-6 in the mean)."""

LEAST_AGREEMENT: Final = 0.9
"""Share of the pixels to which an int8 network must give the same class as the network itself."""

IR_VERSION: Final = 9
"""The form of a file that ONNX Runtime 1.17 reads, the newest that Deepness 0.6 installs."""

CHECKED: Final = ((1, 64, 64), (2, 64, 96), (1, 160, 128))
"""Batch, height and width of images of noise on which a file is compared with its model."""

MAX_PX: Final = 1 << 16
"""Height and width up to which the network is exported."""


@dataclass(frozen=True)
class Agreement:
    """How well a file agrees with its model, at worst of all engines that are installed."""

    largest: float
    """The largest difference of a probability."""
    same: float
    """Share of the pixels that are of the same class."""
    engines: tuple[str, ...]


class _Exported(nn.Module):
    """What a file holds: (B, bands, H, W) float32 from 0 to 1 → probabilities (B, C, H, W)."""

    def __init__(self, segmenter: Segmenter) -> None:
        """Wrap a segmenter."""
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> Tensor:
        """Return the probabilities."""
        logits: Tensor = self.segmenter(image * 255)
        return logits.softmax(dim=1)


def export_model(
    model: NamedModel,
    path: Path,
    *,
    is_for_deepness: bool = False,
    calibration: Sequence[npt.NDArray[np.uint8]] = (),
) -> Agreement:
    """Write a model as an ONNX file, for batches of any size and images of any multiple of 32 px.

    Args:
        model: to write.
        path: where to; nothing is left there of a file that does not agree with the model.
        is_for_deepness: declare the height and width of a training tile. Deepness opens no model
            without; others then give it images of that size, pointcover of any.
        calibration: windows (bands, H, W) of images like those to be mapped. Where there are some,
            the network computes in int8, scaled by what they show, and is compared on them.

    Raises:
        ValueError: the model is an ONNX file already, cannot be exported, or the file disagrees
            with it; a package is missing.
        OSError: the file cannot be written.
    """
    segmenter = model.segmenter
    if not isinstance(segmenter, Segmenter):
        raise ValueError(
            f"{model.reference} is an ONNX file already: give the model that it was made of"
        )
    with need_extra():
        import onnxruntime as onnxruntime  # what Deepness runs it with, so it is checked with that
    segmenter = segmenter.cpu().eval()
    proto = _trace(model.reference, segmenter)
    if calibration:
        proto = quantise(proto, calibration)
    for name, value in describe(model.checkpoint).items():
        proto.metadata_props.add(key=name, value=value)
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    images = [torch.from_numpy(window[None]) for window in calibration] or _draw_images(model)
    agreement = _compare(segmenter, proto.SerializeToString(), images)
    if not calibration and not agreement.largest <= TOLERANCE:
        raise ValueError(
            f"{path} was not written: the exported network differs from {model.reference} by "
            f"{agreement.largest:.2g} in a probability ({', '.join(agreement.engines)}), wanted "
            f"{TOLERANCE} at most. Try another version of torch or onnxscript, and report it"
        )
    if not agreement.same >= LEAST_AGREEMENT:
        raise ValueError(
            f"{path} was not written: in int8 {agreement.same:.1%} of the pixels keep their class, "
            f"wanted {LEAST_AGREEMENT:.0%} at least: give more images, like those to be mapped, or "
            f"export without --int8"
        )
    if is_for_deepness:
        declare_size(proto, model.tile_set.size_px)
    with publish_file(path) as aside:
        aside.write_bytes(proto.SerializeToString())
    return agreement


def remarks_for_deepness(tile_set: TileSet) -> list[str]:
    """Return how Deepness treats images otherwise than training, where no metadata can tell."""
    remarks = []
    if tile_set.bands != tuple(range(1, len(tile_set.bands) + 1)):
        remarks.append(
            f"Deepness takes bands in the order of the image, and the model wants "
            f"{', '.join(map(str, tile_set.bands))}: choose them in its panel (advanced mapping)"
        )
    low, high = tile_set.value_range
    if (low, high) != (0, WHITE):
        remarks.append(
            f"Deepness divides images by {WHITE}, and the model wants {low:g} to {high:g}: scale "
            f"images to bytes in that measure first"
        )
    return remarks


def _trace(reference: str, segmenter: Segmenter) -> Any:
    """Turn a network into an ONNX model.

    Raises:
        ValueError: torch cannot.
    """
    with need_extra():
        import onnxscript as onnxscript  # torch's exporter needs it, and fails late without
    most = MAX_PX // STRIDE_PX
    sides = [STRIDE_PX * torch.export.Dim(name, min=2, max=most) for name in ("rows", "columns")]
    shapes = {IMAGE: {0: torch.export.Dim("batch"), 2: sides[0], 3: sides[1]}}
    example = torch.zeros(2, segmenter.mean.numel(), 64, 96)
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                _Exported(segmenter).eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=[IMAGE],
                output_names=[PROBABILITIES],
                verbose=False,
            )
    except Exception as error:  # torch has as many as it has passes
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(
            f"{reference} cannot be exported: torch {torch.__version__} does not turn it into ONNX "
            f"({reason}). Try another torch, or a model of another kind (unet is known to work)"
        ) from None
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    declare_size(proto, None)
    return proto


def _strip(proto: Any) -> None:
    """Remove what a user does not need: where in which file of this machine a node came from."""
    del proto.graph.value_info[:]
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


def _draw_images(model: NamedModel) -> list[Tensor]:
    """Draw images of noise: those of CHECKED, and one as large as a training tile."""
    generator = torch.Generator().manual_seed(0)
    bands, tile_px = len(model.tile_set.bands), model.tile_set.size_px
    return [
        torch.randint(0, 256, (batch, bands, height, width), generator=generator, dtype=torch.uint8)
        for batch, height, width in (*CHECKED, (1, tile_px, tile_px))
    ]


@torch.inference_mode()
def _compare(segmenter: Segmenter, content: bytes, images: Sequence[Tensor]) -> Agreement:
    """Compare a file with its model on batches of images, by all engines that are installed."""
    bands = segmenter.mean.numel()
    networks = [OnnxSegmenter(content, bands, engine) for engine in find_engines()]
    largest, pixels = 0.0, 0
    same = [0] * len(networks)
    for batch in images:
        wanted = segmenter(batch).float().softmax(dim=1)
        pixels += wanted[:, 0].numel()
        for number, network in enumerate(networks):
            found = network(batch).softmax(dim=1)
            largest = max(largest, float((found - wanted).abs().max()))
            same[number] += int((found.argmax(dim=1) == wanted.argmax(dim=1)).sum())
    return Agreement(largest, min(same) / pixels, tuple(network.engine for network in networks))
