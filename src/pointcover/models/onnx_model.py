"""Read and run ONNX files: a network with its metadata, in OpenVINO or ONNX Runtime.

Torch is not needed here; see `onnx_segmenter` for a network of torch that runs such a file.

The input of a file's network are images (B, bands, H, W) float32 from 0 to 1 (bytes divided by
255), its output class probabilities (B, C, H, W) float32. Input, output and metadata are those of
a `Segmentor` of Deepness, a plugin for QGIS (https://github.com/PUTvision/qgis-plugin-deepness).
According to the source of its version 0.6 (models/model_base.py and segmentor.py,
map_processor_segmentation.py, deepness_dockwidget.py) Deepness

- divides bytes by 255, then subtracts `standardization_mean` and divides by
  `standardization_std`. Here normalisation is part of the network, so these are 0 and 1;
- sets values below `seg_thresh` to 0 and takes the largest, so scores must not be negative, and
  the threshold must be 0 to get the most probable class in every pixel;
- reads height and width from the shape of the input, and opens a model only if they are numbers,
  and equal to those of the output.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from pointcover.models.onnx_proto import each_weight, parse_model
from pointcover.networks.description import Checkpoint
from pointcover.prediction.windows import ALIGNMENT_PX
from pointcover.runtime.processor import count_threads
from pointcover.text import shorten
from pointcover.tileset.tiles import WHITE

IMAGE: Final = "image"
PROBABILITIES: Final = "probabilities"
"""Names of the network's input and output."""

OWN_KEY: Final = "pointcover"
"""Metadata key with the contents of model.json."""

OVERLAP_PERCENT: Final = 25
"""Overlap of windows in Deepness; the default of `pointcover predict`."""

EngineName = Literal["openvino", "onnxruntime"]
ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)

Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""(B, bands, H, W) float32 from 0 to 1 → (B, C, H, W) probabilities."""


@contextmanager
def need_extra(extra: str) -> Iterator[None]:
    """Turn a failed import in the block into an error that says how to install the package.

    Args:
        extra: of pointcover that has the package.

    Raises:
        ValueError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"ONNX files need the package {error.name!r}, which is not installed: run "
            f"`pip install 'pointcover[{extra}]'` (in a clone, `pip install -e '.[{extra}]'`)"
        ) from None


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the metadata of an ONNX file, JSON by key, for Deepness and for pointcover.

    Deepness reads `tile_size`, although its documentation says `tiles_size`; both are written.
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
        OWN_KEY: {"multiple_of_px": ALIGNMENT_PX, **checkpoint.to_json()},
    }
    if tile_set.gsds_m:
        middle_m = sorted(tile_set.gsds_m)[len(tile_set.gsds_m) // 2]
        values["resolution"] = round(100 * middle_m, 4)  # centimetres a pixel
    return {name: json.dumps(value) for name, value in values.items()}


def declare_size(proto: Any, size_px: int | None) -> None:
    """Set the height and width of an ONNX model's input and output; None allows any size.

    The network itself does not change, so another size can be declared later.
    """
    for value in (*proto.graph.input, *proto.graph.output):
        _, _, height, width = value.type.tensor_type.shape.dim
        if size_px is None:
            height.dim_param, width.dim_param = "height", "width"
        else:
            height.dim_value = width.dim_value = size_px


class OnnxNetwork:
    """The network of an ONNX file, with the engine that runs it on the CPU."""

    def __init__(self, content: bytes, bands: int, engine: EngineName | None = None) -> None:
        """Load a network.

        Args:
            content: all bytes of the file.
            bands: number of bands of the images.
            engine: that runs the network. By default OpenVINO if it is installed, otherwise ONNX
                Runtime.

        Raises:
            ValueError: no engine is installed, or it cannot run the file.
        """
        self.content, self._bands = content, bands
        self._engine = engine or find_engines()[0]
        self._runs: dict[bool, Run] = {}
        self._run(in_bf16=False)

    @property
    def engine(self) -> str:
        """Name and version of the engine that runs the network."""
        return f"{self._engine} {version(self._engine)}"

    @cached_property
    def has_bf16(self) -> bool:
        """Whether the engine computes in bf16, and the processor has such instructions."""
        if self._engine != "openvino":
            return False
        import openvino

        return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def probabilities(
        self, images: npt.NDArray[np.generic], *, in_bf16: bool = False
    ) -> npt.NDArray[np.float32]:
        """Return class probabilities: (B, bands, H, W) of 0 to 255 → (B, C, H, W) float32.

        Args:
            images: H and W are multiples of 32.
            in_bf16: compute in bf16 with OpenVINO; ONNX Runtime does not.

        Raises:
            ValueError: H or W is not a multiple of 32, or the number of bands is wrong.
        """
        _, bands, height, width = images.shape
        if bands != self._bands or height % ALIGNMENT_PX or width % ALIGNMENT_PX:
            raise ValueError(
                f"got images of {bands} band(s) and {height} × {width} px, wanted {self._bands} "
                f"band(s) and multiples of {ALIGNMENT_PX} px"
            )
        return self._run(in_bf16=in_bf16)(images.astype(np.float32) / np.float32(WHITE))

    def _run(self, *, in_bf16: bool) -> Run:
        if in_bf16 not in self._runs:
            make = _run_openvino if self._engine == "openvino" else _run_onnxruntime
            try:
                self._runs[in_bf16] = make(self.content, in_bf16)
            except Exception as error:  # the engines have their own types
                raise ValueError(
                    f"{self.engine} cannot run the file ({' '.join(str(error).split())[:200]}): "
                    f"export it again, or install the other one of openvino and onnxruntime"
                ) from None
        return self._runs[in_bf16]


def find_engines() -> list[EngineName]:
    """Return the installed engines for ONNX files, the fastest first.

    Raises:
        ValueError: none is installed.
    """
    found = [name for name in ENGINES if find_spec(name)]
    if not found:
        with need_extra("maps"):
            raise ModuleNotFoundError(name=ENGINES[-1])
    return found


def read_onnx(path: Path) -> tuple[OnnxNetwork, Checkpoint, str]:
    """Read a model from a file that `pointcover export` wrote.

    Returns:
        the network, for images of any size, even if the file declares one; the contents of
        model.json; and the SHA-256 of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or was not written by pointcover; or a package is missing.
    """
    content = path.read_bytes()
    with need_extra("maps"):
        import google.protobuf as protobuf  # noqa: F401
    try:
        proto = parse_model(content)
        values = {entry.key: entry.value for entry in proto.metadata_props}
        checkpoint = Checkpoint.from_json(json.loads(values[OWN_KEY]))
        declare_size(proto, None)
        broken = [name for name, values in each_weight(proto) if np.isnan(values).any()]
    except Exception as error:  # protobuf's own types, or invalid metadata
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{path} is not a model of pointcover ({reason}): wanted a file that `pointcover "
            f"export` wrote; export it again"
        ) from None
    if broken:
        raise ValueError(
            f"{path} holds weights that are not numbers ({shorten(broken, 3)}): export it again"
        )
    try:
        network = OnnxNetwork(proto.SerializeToString(), len(checkpoint.tile_set.bands))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return network, checkpoint, sha256(content).hexdigest()


def _run_openvino(content: bytes, in_bf16: bool) -> Run:
    import openvino

    core = openvino.Core()
    network = core.compile_model(
        core.read_model(content),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": count_threads(),
            "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
        },
    )
    return lambda images: np.asarray(network(images)[0], np.float32)


def _run_onnxruntime(content: bytes, in_bf16: bool) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_threads()
    options.log_severity_level = 3  # errors only: it warns of shapes that it cannot infer
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {IMAGE: images})[0], np.float32)
