"""Choose what computes the scores of a map: engines for ONNX files, or torch.

Maps by ONNX files alone need no torch, and are the same with and without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from pointcover.maps.settings import MapSettings
from pointcover.models.load import NamedModel
from pointcover.models.onnx_model import OnnxNetwork
from pointcover.prediction.array_inference import ArrayInference
from pointcover.prediction.priors import make_correction, make_shifts
from pointcover.prediction.settings import DeviceSettings, PriorSettings
from pointcover.prediction.sliding_window import Inference
from pointcover.runtime.processor import environment_of_engines

if TYPE_CHECKING:
    from pointcover.runtime.devices import Fabric

Made = TypeVar("Made")

FP32: Final = "32-true"
BF16: Final = "bf16-mixed"
"""Names of precisions, as Fabric has them."""


@dataclass(frozen=True)
class Scoring:
    """What computes the scores of windows, and what its bits depend on."""

    inference: Inference
    precision: str
    """FP32 or BF16."""
    environment: dict[str, object]
    """Of the machine and its libraries, as JSON values."""


def need_torch(models: Sequence[NamedModel], settings: MapSettings | None = None) -> bool:
    """Return whether torch computes the scores of models, or a setting needs it.

    Args:
        models: of a map.
        settings: of the map.
    """
    refines = settings is not None and settings.crf is not None
    return refines or not all(isinstance(model.network, OnnxNetwork) for model in models)


def make_scoring(
    device: "Fabric | DeviceSettings", models: Sequence[NamedModel], settings: MapSettings
) -> Scoring:
    """Return what computes the scores of a map.

    Args:
        device: device and precision; a Fabric where torch computes.
        models: an ensemble, of which probabilities are averaged.
        settings: of the map.

    Raises:
        ValueError: the priors do not match a model, or there is no such device or precision.
        ModuleNotFoundError: torch computes, and is not installed.
    """
    if not need_torch(models, settings):
        return _by_engines(device, models, settings)
    if isinstance(device, DeviceSettings):
        from pointcover.runtime.devices import make_fabric

        device = make_fabric(device.device, device.precision)
    return _by_torch(device, models, settings)


def _by_engines(
    device: "Fabric | DeviceSettings", models: Sequence[NamedModel], settings: MapSettings
) -> Scoring:
    networks = [model.network for model in models if isinstance(model.network, OnnxNetwork)]
    in_bf16 = _choose_bf16(device, networks)
    shifts = _for_priors(make_shifts, models, settings)
    inference = ArrayInference(
        [partial(network.probabilities, in_bf16=in_bf16) for network in networks],
        len(models[0].tile_set.classes),
        settings.layers,
        settings.batch_size,
        settings.average_views,
        shifts,
    )
    return Scoring(inference, BF16 if in_bf16 else FP32, environment_of_engines())


def _choose_bf16(device: "Fabric | DeviceSettings", networks: Sequence[OnnxNetwork]) -> bool:
    """Return whether engines compute in bf16.

    Raises:
        ValueError: a GPU is wanted, or bf16 of an engine that does not have it.
    """
    if not isinstance(device, DeviceSettings):
        precision = str(device.strategy.precision.precision)
        return precision == BF16 and all(network.has_bf16 for network in networks)
    if device.device == "cuda":
        raise ValueError(
            "device: got cuda, but ONNX files run on the CPU: leave the device out, or map with "
            "the model that was exported"
        )
    if device.precision == "bf16" and not all(network.has_bf16 for network in networks):
        raise ValueError(
            f"precision: got bf16, but {networks[0].engine} does not compute in bf16 on this "
            f"processor: leave the precision out, or install openvino where the processor has bf16"
        )
    return device.precision != "fp32" and all(network.has_bf16 for network in networks)


def _by_torch(fabric: "Fabric", models: Sequence[NamedModel], settings: MapSettings) -> Scoring:
    from pointcover.prediction.mean_field import MeanField
    from pointcover.prediction.predict import Predictor
    from pointcover.prediction.window_inference import MapLayers, WindowInference
    from pointcover.runtime.fingerprint import environment_of

    corrections = _for_priors(make_correction, models, settings)
    predictor = Predictor(
        [model.segmenter for model in models],
        average_views=settings.average_views,
        corrections=corrections,
        refine=MeanField(settings.crf) if settings.crf else None,
    )
    inference = WindowInference(
        predictor.score_on(fabric),
        len(models[0].tile_set.classes),
        MapLayers(settings.layers),
        settings.batch_size,
        fabric.device,
        predictor.score_parts_on(fabric),
    )
    precision = str(fabric.strategy.precision.precision)
    return Scoring(inference, precision, environment_of(fabric.device.type))


def _for_priors(
    make: Callable[[PriorSettings, str, Sequence[str], Sequence[float] | None], Made],
    models: Sequence[NamedModel],
    settings: MapSettings,
) -> list[Made]:
    """Return what each model's scores need for the class priors of a map; nothing without these."""
    priors = settings.priors
    if priors is None:
        return []
    return [
        make(priors, one.reference, one.tile_set.classes.names, one.checkpoint.label_fractions)
        for one in models
    ]
