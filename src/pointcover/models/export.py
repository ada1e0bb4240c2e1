"""Export a model as an ONNX file, and compare its predictions with those of PyTorch."""

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
    OnnxNetwork,
    declare_size,
    describe,
    find_engines,
    need_extra,
)
from pointcover.models.onnx_segmenter import OnnxSegmenter
from pointcover.models.quantize import quantise
from pointcover.networks.segmenter import STRIDE_PX, PixelSegmenter, Segmenter
from pointcover.runtime.atomic_files import publish_file
from pointcover.tileset.tiles import WHITE, TileSet

TOLERANCE: Final = 5e-3
"""Largest difference of a probability from PyTorch's: half of the percent that a map shows. The
largest rounding error that was measured is 1e-3 (2e-6 in the mean)."""

RARELY: Final = 1e-3
"""Fraction of the pixels whose probabilities may lie further from PyTorch's in a pixel classifier:
where a feature is at the threshold of a tree, rounding decides which leaf a pixel comes to."""

LEAST_AGREEMENT: Final = 0.9
"""Minimum fraction of pixels with the same class in an int8 network and in PyTorch."""

IR_VERSION: Final = 9
"""Newest ONNX IR version that ONNX Runtime 1.17 reads; Deepness 0.6 installs no newer one."""

CHECKED: Final = ((1, 64, 64), (2, 64, 96), (1, 160, 128))
"""Batch size, height and width of the noise images on which a file is compared with its model."""

MAX_PX: Final = 1 << 16
"""Largest height and width of the exported network's input."""


@dataclass(frozen=True)
class Agreement:
    """How well a file agrees with its model; the worst value of all installed engines."""

    largest: float
    """Largest difference of a probability."""
    same: float
    """Fraction of the pixels with the same class."""
    engines: tuple[str, ...]
    """Names and versions."""
    beyond: float
    """Fraction of the pixels with a probability further away than TOLERANCE."""


class _Exported(nn.Module):
    """The exported network: (B, bands, H, W) float32 from 0 to 1 → (B, C, H, W) probabilities."""

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
        path: of the file; not written if the exported network does not agree with the model.
        is_for_deepness: declare the height and width of a training tile, which Deepness needs.
            Other programs can then only use images of this size; pointcover can use any.
        calibration: windows (bands, H, W) uint8 of images like those to be mapped. If there are
            any, the network is quantised to int8 with their ranges of values, and compared on
            them.

    Returns:
        how well the file agrees with the model.

    Raises:
        ValueError: the model is an ONNX file already, cannot be exported, or the exported network
            does not agree with it; or a package is missing.
        OSError: the file cannot be written.
    """
    segmenter = model.network
    if not isinstance(segmenter, Segmenter):
        raise ValueError(
            f"{model.reference} is an ONNX file already: name the model that it was exported from"
        )
    with need_extra("onnx"):
        import onnxruntime as onnxruntime  # the engine of Deepness, so the file is checked with it
    segmenter = segmenter.cpu().eval()
    proto = _trace(model.reference, segmenter)
    if calibration:
        proto = quantise(proto, calibration)
    for name, value in describe(model.checkpoint).items():
        proto.metadata_props.add(key=name, value=value)
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    images = [torch.from_numpy(window[None]) for window in calibration] or _draw_images(model)
    agreement = _compare(segmenter, proto.SerializeToString(), images)
    allowed = RARELY if isinstance(segmenter, PixelSegmenter) else 0
    if not calibration and agreement.beyond > allowed:
        raise ValueError(
            f"{path} was not written: the exported network differs from {model.reference} by "
            f"{agreement.largest:.2g} in a probability ({', '.join(agreement.engines)}), wanted "
            f"{TOLERANCE} at most. Try another version of torch or onnxscript, and report it"
        )
    if not agreement.same >= LEAST_AGREEMENT:
        raise ValueError(
            f"{path} was not written: in int8 {agreement.same:.1%} of the pixels keep their class, "
            f"wanted {LEAST_AGREEMENT:.0%} at least: use more images like those to be mapped, or "
            f"export without --int8"
        )
    if is_for_deepness:
        declare_size(proto, model.tile_set.size_px)
    with publish_file(path) as aside:
        aside.write_bytes(proto.SerializeToString())
    return agreement


def remarks_for_deepness(tile_set: TileSet) -> list[str]:
    """Return remarks on preprocessing that Deepness cannot read from the file's metadata."""
    remarks = []
    if tile_set.bands != tuple(range(1, len(tile_set.bands) + 1)):
        remarks.append(
            f"Deepness reads bands in the order of the image, and the model needs bands "
            f"{', '.join(map(str, tile_set.bands))}: choose them in its panel (advanced mapping)"
        )
    low, high = tile_set.value_range
    if (low, high) != (0, WHITE):
        remarks.append(
            f"Deepness divides images by {WHITE}, and the model was trained on values of {low:g} "
            f"to {high:g}: scale this range of the images to bytes first"
        )
    return remarks


def _trace(reference: str, segmenter: Segmenter) -> Any:
    """Return a network as an ONNX model, an `onnx.ModelProto`.

    Raises:
        ValueError: torch cannot export the network, or a package is missing.
    """
    with need_extra("onnx"):
        import onnxscript as onnxscript  # torch's exporter needs it, and fails late without it
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
                # Takes a third of the time for the many nodes of a filter bank, and runtimes
                # optimise themselves.
                optimize=not isinstance(segmenter, PixelSegmenter),
            )
    except Exception as error:  # torch raises many types
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(
            f"{reference} cannot be exported: torch {torch.__version__} cannot convert it to ONNX "
            f"({reason}). Try another version of torch, or another architecture (unet is known to "
            f"work)"
        ) from None
    assert program is not None
    proto = program.model_proto
    _strip(proto)
    declare_size(proto, None)
    return proto


def _strip(proto: Any) -> None:
    """Remove debugging information, such as source files and lines on this machine."""
    del proto.graph.value_info[:]
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


def _draw_images(model: NamedModel) -> list[Tensor]:
    """Return noise images (B, bands, H, W) uint8 of the sizes of CHECKED and of a training tile."""
    generator = torch.Generator().manual_seed(0)
    bands, tile_px = len(model.tile_set.bands), model.tile_set.size_px
    return [
        torch.randint(0, 256, (batch, bands, height, width), generator=generator, dtype=torch.uint8)
        for batch, height, width in (*CHECKED, (1, tile_px, tile_px))
    ]


@torch.inference_mode()
def _compare(segmenter: Segmenter, content: bytes, images: Sequence[Tensor]) -> Agreement:
    """Compare a file with its model on batches of images, with all installed engines."""
    bands = segmenter.mean.numel()
    engines = [OnnxNetwork(content, bands, engine) for engine in find_engines()]
    networks = [OnnxSegmenter(engine) for engine in engines]
    largest, pixels = 0.0, 0
    same, beyond = [0] * len(networks), [0] * len(networks)
    for batch in images:
        wanted = segmenter(batch).float().softmax(dim=1)
        pixels += wanted[:, 0].numel()
        for number, network in enumerate(networks):
            found = network(batch).softmax(dim=1)
            difference = (found - wanted).abs().amax(dim=1)
            largest = max(largest, float(difference.max()))
            beyond[number] += int((~(difference <= TOLERANCE)).sum())
            same[number] += int((found.argmax(dim=1) == wanted.argmax(dim=1)).sum())
    names = tuple(engine.engine for engine in engines)
    return Agreement(largest, min(same) / pixels, names, max(beyond) / pixels)
