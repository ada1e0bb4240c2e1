"""ONNX files: a network with all that is known of it, run without torch. The door to the runtimes.

The network in a file takes images (B, bands, H, W) float32 from 0 to 1 (bytes divided by 255) and
gives class probabilities (B, C, H, W) float32. That, and the metadata, are what Deepness expects of
a `Segmentor`, the plugin for QGIS (https://github.com/PUTvision/qgis-plugin-deepness); read was
its source of version 0.6 (models/model_base.py and segmentor.py,
map_processor_segmentation.py, deepness_dockwidget.py):

- it divides bytes by 255, then subtracts `standardization_mean` and divides by
  `standardization_std`. Here normalising is part of the network, and these change nothing;
- it sets values below `seg_thresh` to 0 and takes the greatest, so scores must not be negative,
  and the threshold must be 0 where the likeliest class is wanted however likely it is;
- it reads height and width from the shape of the input, and does not open a model where they are
  not numbers, or where those of the output are not equal.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pointcover.networks.checkpoint import Checkpoint
from pointcover.networks.segmenter import STRIDE_PX

IMAGE: Final = "image"
PROBABILITIES: Final = "probabilities"
"""Names of the network's input and output."""

OWN_KEY: Final = "pointcover"
"""The entry of the metadata that says of a model what model.json does."""

OVERLAP_PERCENT: Final = 25
"""What Deepness is told to let tiles share; `pointcover predict` does so by default."""

EngineName = Literal["openvino", "onnxruntime"]
ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)

Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Images as the network in a file takes them → probabilities."""


@contextmanager
def need_extra() -> Iterator[None]:
    """Say of a package that is missing how to get it.

    Raises:
        ValueError: an import of the block finds no package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"ONNX files need the package {error.name!r}, which is not installed: run "
            f"`pip install 'pointcover[onnx]'` (in a clone, `pip install -e '.[onnx]'`)"
        ) from None


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the metadata of a model: what Deepness reads, and what pointcover does.

    `tile_size` is what Deepness reads, `tiles_size` what its documentation says.
    """
    tile_set = checkpoint.tile_set
    bands = len(tile_set.bands)
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": dict(enumerate(tile_set.classes.names)),
        "tile_size": tile_set.size_px,
        "tiles_size": tile_set.size_px,
        "tiles_overlap": OVERLAP_PERCENT,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
        "standardization_mean": [0.0] * bands,
        "standardization_std": [1.0] * bands,
        OWN_KEY: {"multiple_of_px": STRIDE_PX, **checkpoint.to_json()},
    }
    if tile_set.gsds_m:
        middle_m = sorted(tile_set.gsds_m)[len(tile_set.gsds_m) // 2]
        values["resolution"] = round(100 * middle_m, 4)  # centimetres a pixel
    return {name: json.dumps(value) for name, value in values.items()}


def declare_size(proto: Any, size_px: int | None) -> None:
    """Write into an ONNX model which height and width it takes; None is any.

    The network itself does not change: another size can be declared at any time.
    """
    for value in (*proto.graph.input, *proto.graph.output):
        _, _, height, width = value.type.tensor_type.shape.dim
        if size_px is None:
            height.dim_param, width.dim_param = "height", "width"
        else:
            height.dim_value = width.dim_value = size_px


class OnnxSegmenter(nn.Module):
    """A network of an ONNX file, for use where a `Segmenter` is used; it cannot be trained."""

    def __init__(self, content: bytes, bands: int, engine: EngineName | None = None) -> None:
        """Take a whole file.

        Args:
            content: of the file.
            bands: bands of the images.
            engine: what runs it; by default OpenVINO where it is installed, else ONNX Runtime.

        Raises:
            ValueError: neither is installed, or they cannot run the file.
        """
        super().__init__()
        self.content, self._bands = content, bands
        self._engine = engine or find_engines()[0]
        self._runs: dict[bool, Run] = {}
        self._run(in_bf16=False)

    @property
    def engine(self) -> str:
        """What runs the network, and its version."""
        return f"{self._engine} {version(self._engine)}"

    def forward(self, images: Tensor) -> Tensor:
        """Score images: (B, bands, H, W) uint8 → logarithms of probabilities (B, C, H, W) float32.

        They are logits: their softmax is the probabilities. The network runs on the processor,
        wherever images lie; within autocast in bf16, OpenVINO computes in that.

        Raises:
            ValueError: H or W is no multiple of 32, or the bands are not those of the model.
        """
        _, bands, height, width = images.shape
        if bands != self._bands or height % STRIDE_PX or width % STRIDE_PX:
            raise ValueError(
                f"got images of {bands} band(s) and {height} × {width} px, wanted {self._bands} "
                f"band(s) and multiples of {STRIDE_PX} px"
            )
        run = self._run(in_bf16=torch.is_autocast_enabled(images.device.type))
        probabilities = run((images.cpu().float() / 255).numpy())
        return torch.tensor(probabilities).log().to(images.device)

    def _run(self, *, in_bf16: bool) -> Run:
        if in_bf16 not in self._runs:
            make = _run_openvino if self._engine == "openvino" else _run_onnxruntime
            try:
                self._runs[in_bf16] = make(self.content, in_bf16)
            except Exception as error:  # each has its own
                raise ValueError(
                    f"{self.engine} cannot run the file ({' '.join(str(error).split())[:200]}): "
                    f"export it again, or install the other one of openvino and onnxruntime"
                ) from None
        return self._runs[in_bf16]


def find_engines() -> list[EngineName]:
    """Return what is installed and runs ONNX files, the faster first.

    Raises:
        ValueError: nothing is.
    """
    found = [name for name in ENGINES if find_spec(name)]
    if not found:
        with need_extra():
            raise ModuleNotFoundError(name=ENGINES[-1])
    return found


def read_onnx(path: Path) -> tuple[OnnxSegmenter, Checkpoint, str]:
    """Read a model from the file that `pointcover export` wrote.

    Returns:
        the network for images of any size, also where the file declares one; what the model is;
        the SHA-256 of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another origin; a package is missing.
    """
    with need_extra():
        import onnx
    content = path.read_bytes()
    try:
        proto = onnx.load_model_from_string(content)
        values = {entry.key: entry.value for entry in proto.metadata_props}
        checkpoint = Checkpoint.from_json(json.loads(values[OWN_KEY]))
        declare_size(proto, None)
    except Exception as error:  # protobuf's own, or what of the metadata is not as it should be
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{path} is no model of pointcover ({reason}): wanted a file that `pointcover export` "
            f"wrote; write it again"
        ) from None
    try:
        segmenter = OnnxSegmenter(proto.SerializeToString(), len(checkpoint.tile_set.bands))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return segmenter, checkpoint, sha256(content).hexdigest()


def _run_openvino(content: bytes, in_bf16: bool) -> Run:
    import openvino

    core = openvino.Core()
    network = core.compile_model(
        core.read_model(content),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
        },
    )
    return lambda images: np.asarray(network(images)[0], np.float32)


def _run_onnxruntime(content: bytes, in_bf16: bool) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: it warns of shapes that it cannot know
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {IMAGE: images})[0], np.float32)
