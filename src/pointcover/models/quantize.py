"""Quantise an ONNX model to int8, with activation ranges measured on images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pointcover.models.onnx_model import IMAGE, need_extra

OPERATIONS: Final = ("Conv", "ConvTranspose", "Add", "Concat", "MaxPool", "Resize", "Relu")
"""Operations in int8. Normalisation and softmax are not quantised: they need little time, and
would lose accuracy."""


def quantise(proto: Any, calibration: Sequence[npt.NDArray[np.uint8]]) -> Any:
    """Quantise a trained network (post-training static quantisation, weights per channel).

    Activations are scaled by their minimum and maximum on the windows. Weights have 7 of the 8
    bits: processors with only AVX2 or AVX-512 add products in 16 bits, which overflow with 8-bit
    weights, without an error
    (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

    Args:
        proto: an ONNX model with an input of float32 images from 0 to 1.
        calibration: windows (bands, H, W) uint8.

    Returns:
        the quantised `onnx.ModelProto`.

    Raises:
        ValueError: a package is missing.
    """
    with need_extra("onnx"):
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process

    class Windows(CalibrationDataReader):  # type: ignore[misc]
        """An iterator over the windows."""

        def __init__(self) -> None:
            self._windows = _as_inputs(calibration)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(self._windows, None)

    with TemporaryDirectory() as place:
        plain, prepared, made = (Path(place) / f"{n}.onnx" for n in range(3))
        onnx.save(proto, plain)
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(made),
            Windows(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(OPERATIONS),
        )
        return onnx.load(made)


def _as_inputs(
    windows: Sequence[npt.NDArray[np.uint8]],
) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    for window in windows:
        yield {IMAGE: np.divide(window[None], 255, dtype=np.float32)}
