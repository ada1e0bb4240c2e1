"""Read and change the parts of ONNX files that maps need, without the package onnx.

An ONNX file is a message of Protocol Buffers. Here only some of its fields are declared, with the
names and numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; protobuf keeps the
others as they are. The package onnx has all of them, but takes 35 MB.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_PACKAGE: Final = "pointcover_onnx"

_MESSAGES: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "Model": (
        ("ir_version", 1, "int64"),
        ("producer_name", 2, "string"),
        ("producer_version", 3, "string"),
        ("domain", 4, "string"),
        ("model_version", 5, "int64"),
        ("doc_string", 6, "string"),
        ("graph", 7, "Graph"),
        ("opset_import", 8, "Opset*"),
        ("metadata_props", 14, "Entry*"),
    ),
    "Entry": (("key", 1, "string"), ("value", 2, "string")),
    "Opset": (("domain", 1, "string"), ("version", 2, "int64")),
    "Graph": (
        ("node", 1, "Node*"),
        ("name", 2, "string"),
        ("initializer", 5, "Tensor*"),
        ("input", 11, "Value*"),
        ("output", 12, "Value*"),
    ),
    "Node": (),
    "Value": (("name", 1, "string"), ("type", 2, "Type")),
    "Type": (("tensor_type", 1, "TensorType"),),
    "TensorType": (("elem_type", 1, "int32"), ("shape", 2, "Shape")),
    "Shape": (("dim", 1, "Dimension*"),),
    "Dimension": (("dim_value", 1, "int64"), ("dim_param", 2, "string")),
    "Tensor": (
        ("data_type", 2, "int32"),
        ("float_data", 4, "float*"),
        ("name", 8, "string"),
        ("raw_data", 9, "bytes"),
    ),
}
"""Fields by message: name, number and type; `*` where there may be several.

protobuf writes declared fields first, and OpenVINO reads a model as empty that does not begin with
`ir_version`: so the first fields of a model are all declared."""

_ONE_OF: Final = ("Dimension",)
"""Messages of which one field alone is set."""

_FLOATS: Final = {1: "<f4", 10: "<f2", 11: "<f8"}
"""Data types of numpy by those of ONNX."""


def parse_model(content: bytes) -> Any:
    """Return an ONNX model as a message with `graph` and `metadata_props`.

    Raises:
        ModuleNotFoundError: protobuf is not installed.
        Exception: the content is not a message; protobuf has its own type.
    """
    return _model_class().FromString(content)


def each_weight(model: Any) -> Iterator[tuple[str, npt.NDArray[np.floating]]]:
    """Yield the name and the values of each weight that is a floating-point number."""
    for tensor in model.graph.initializer:
        if tensor.data_type in _FLOATS:
            raw = np.frombuffer(tensor.raw_data, _FLOATS[tensor.data_type])
            yield tensor.name, raw if raw.size else np.array(tensor.float_data, np.float32)


@cache
def _model_class() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    kinds = {
        "string": field.TYPE_STRING,
        "bytes": field.TYPE_BYTES,
        "int32": field.TYPE_INT32,
        "int64": field.TYPE_INT64,
        "float": field.TYPE_FLOAT,
    }
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name="value")
        for label, number, kind in fields:
            single = kind.removesuffix("*")
            declared = message.field.add(
                name=label,
                number=number,
                label=field.LABEL_OPTIONAL if single == kind else field.LABEL_REPEATED,
                type=kinds.get(single, field.TYPE_MESSAGE),
            )
            if single not in kinds:
                declared.type_name = f".{_PACKAGE}.{single}"
            if kind == "float*":
                declared.options.packed = True
            if name in _ONE_OF:
                declared.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))
