"""params.yaml as validated, frozen models: what each key may be, one message for all faults."""

import difflib
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

ModelT = TypeVar("ModelT", bound=BaseModel)


class Section(BaseModel):
    """What all sections share: they cannot change, and a key they do not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


class SyntheticParams(Section):
    """The embedded dataset: how many orthophotos are drawn, how large, from which seed."""

    orthophotos: Annotated[int, Field(strict=True, ge=3)]
    size_px: Annotated[int, Field(strict=True, ge=128, le=20_000)]
    seed: Seed


class TileParams(Section):
    """How orthophotos are cut and regions divided among train, val and test."""

    size_px: Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=32)]
    downsample: Annotated[int, Field(strict=True, ge=1, le=32)]
    split_seed: Seed


Length = Annotated[float, Field(gt=0, le=4096)]


class LinkParams(Section):
    """Growing by lines between near clicks of one class."""

    distance_px: Length


class NearestParams(Section):
    """Growing into the surroundings of each click."""

    radius_px: Length
    class_radius_px: dict[str, Annotated[float, Field(ge=0, le=4096)]]


class SuperpixelParams(Section):
    """Growing into the superpixels that clicks lie in."""

    side_px: Length
    compactness: Annotated[float, Field(gt=0)]
    min_share: Share


class GeodesicParams(Section):
    """Growing along the shortest ways by colour and distance."""

    limit_px: Length
    contrast_px: Annotated[float, Field(gt=0)]
    cell_px: Annotated[int, Field(strict=True, ge=1, le=16)]


class RandomWalkerParams(Section):
    """Growing to where random walkers meet a class first."""

    beta: Annotated[float, Field(gt=0)]
    range_px: Length
    min_probability: Annotated[float, Field(gt=0.5, le=1)]
    cell_px: Annotated[int, Field(strict=True, ge=1, le=16)]


class VectorParams(Section):
    """How a file of real annotations says classes."""

    column: Annotated[str, Field(min_length=1)]
    layer: tuple[str, ...] | None
    all_touched: bool
    ignore: tuple[str | int, ...]
    codes: dict[str | int, str]

    @field_validator("layer", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class AnnotateParams(Section):
    """Which simulated annotator clicks, and how clicks grow into areas."""

    sampler: Literal[
        "uniform",
        "equal",
        "proportional",
        "spread",
        "boundary",
        "interior",
        "scribbles",
        "positive",
        "dense",
        "none",
    ]
    unit: Literal["per_tile", "per_class", "percent", "total"]
    boundary_px: Annotated[float, Field(ge=1, le=4096)]
    scribble_px: Count
    positive_class: str | None
    jitter_px: Annotated[float, Field(ge=0, le=4096)]
    wrong_share: Share
    grower: Literal["none", "link", "nearest", "superpixel", "geodesic", "random_walker"]
    link: LinkParams
    nearest: NearestParams
    superpixel: SuperpixelParams
    geodesic: GeodesicParams
    random_walker: RandomWalkerParams
    vectors: VectorParams

    @model_validator(mode="after")
    def _sampler_has_what_it_needs(self) -> "AnnotateParams":
        if self.sampler == "positive" and self.positive_class is None:
            raise ValueError("sampler 'positive' needs positive_class: name the class to click on")
        if self.sampler == "scribbles" and self.unit == "percent":
            raise ValueError(
                "sampler 'scribbles' does not go with unit 'percent', as a share of the pixels is "
                "no number of strokes: choose per_tile, per_class or total"
            )
        return self


Weight = Annotated[float, Field(ge=0, le=100)]


class ConsistencyParams(Section):
    """Learning from unlabelled pixels: as in other colours, so in these."""

    weight: Weight
    threshold: Annotated[float, Field(gt=0, le=1)]
    colour_jitter: Share
    blur_px: Annotated[float, Field(ge=0, le=10)]
    cutout: Share


class NeighbourParams(Section):
    """How much neighbours count, which they are, and how alike in colour."""

    weight: Weight
    radius_px: Annotated[int, Field(strict=True, ge=1, le=32)]
    sigma_px: Length
    sigma_colour: Annotated[float, Field(gt=0, le=2)]


class CrfParams(NeighbourParams):
    """Learning from unlabelled pixels: neighbours of like colour are of one class."""

    scale: Literal[1, 2, 4, 8]


class SelfTrainingParams(Section):
    """Learning from unlabelled pixels: rounds that label for the next one."""

    rounds: Annotated[int, Field(strict=True, ge=0, le=10)]
    threshold: Share
    top_share: Annotated[float, Field(gt=0, le=1)] | None


class TrainParams(Section):
    """The network and how it is fitted."""

    model: Literal[
        "unet",
        "unetplusplus",
        "fpn",
        "deeplabv3",
        "deeplabv3plus",
        "segformer",
        "unet_scratch",
        "unetplusplus_scratch",
    ]
    encoder: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    width: Annotated[float, Field(ge=0.25, le=2, multiple_of=0.25)]
    epochs: Count
    batch_size: Annotated[int, Field(strict=True, ge=2)]
    crop_px: Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=32)]
    accumulate: Count
    loss: Literal["cross_entropy", "focal"]
    gamma: Annotated[float, Field(gt=0, le=10)] | None
    class_weighting: Literal["none", "balanced"]
    class_weights: dict[str, Annotated[float, Field(gt=0, le=1e6)]]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    grown_share: Annotated[float, Field(gt=0, lt=1)] | None
    consistency: ConsistencyParams
    crf: CrfParams
    self_training: SelfTrainingParams
    optimiser: Literal["adamw", "adam", "sgd"]
    lr: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    clip_norm: Annotated[float, Field(gt=0)] | None
    schedule: Literal["cosine", "one_cycle", "step", "plateau", "constant"]
    warmup: Share
    drop_factor: Annotated[float, Field(gt=0, lt=1)]
    drop_epochs: Count
    patience: Count | None
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    keep: Literal["best", "last"]
    augmentation: Literal["none", "weak", "medium", "strong"]
    zoom: Annotated[float, Field(ge=1, le=4)] | None
    balance: Literal["none", "region", "class"]
    precision: Literal["auto", "fp32", "bf16"]
    device: Literal["auto", "cpu", "cuda"]
    devices: Annotated[int, Field(strict=True, ge=1, le=64)]

    @model_validator(mode="after")
    def _encoder_is_there_where_it_must_be(self) -> "TrainParams":
        if self.model.endswith("_scratch"):
            if self.encoder != "none" or self.weights != "none":
                raise ValueError(
                    f"model {self.model!r} has no encoder: got encoder {self.encoder!r} and "
                    f"weights {self.weights!r}, wanted `none` for both"
                )
        elif self.encoder == "none":
            raise ValueError(
                f"model {self.model!r} needs an encoder, got 'none': try resnet18, or "
                f"model unet_scratch"
            )
        return self

    @model_validator(mode="after")
    def _every_setting_acts(self) -> "TrainParams":
        if self.optimiser == "sgd" and self.nesterov and not self.momentum:
            raise ValueError(
                "nesterov looks ahead along the momentum, and momentum is 0: set nesterov to "
                "false, or momentum to 0.9"
            )
        if self.loss != "focal" and self.gamma is not None:
            raise ValueError(
                f"gamma is {self.gamma}, but loss {self.loss!r} has none: set gamma to null, or "
                f"loss to focal"
            )
        if self.warmup == 1 and (self.consistency.weight or self.crf.weight):
            raise ValueError(
                "consistency and crf begin after the warm-up, and warmup is 1: lower warmup, or "
                "set their weights to 0"
            )
        if self.batch_size < 2 * self.devices:
            raise ValueError(
                f"batch_size is {self.batch_size} with devices {self.devices}: wanted at least "
                f"{2 * self.devices}, two for each device"
            )
        if self.schedule == "one_cycle" and not self.warmup:
            raise ValueError(
                "schedule 'one_cycle' rises first, and warmup is 0: set warmup to 0.3, or schedule "
                "to cosine"
            )
        for key, acts in (
            ("patience", True),
            ("drop_epochs", self.schedule in ("step", "plateau")),
        ):
            epochs = getattr(self, key)
            if acts and epochs is not None and epochs >= self.epochs:
                raise ValueError(
                    f"{key} is {epochs}, but training ends after {self.epochs} epochs: wanted "
                    f"fewer, or more epochs"
                )
        return self


Panels = Annotated[int, Field(strict=True, ge=0, le=64)]


class MeanFieldParams(NeighbourParams):
    """Neighbours of like colour agree on a class, after prediction."""

    iterations: Annotated[int, Field(strict=True, ge=0, le=50)]


class EvaluateParams(Section):
    """How the test split is scored and shown."""

    batch_size: Count
    views: Literal["one", "d4"]
    priors: dict[str, Annotated[float, Field(gt=0, le=1)]]
    prior_strength: Annotated[float, Field(gt=0, le=10)]
    ensemble: Annotated[str, Field(min_length=1)]
    crf: MeanFieldParams
    erode_px: Annotated[int, Field(strict=True, ge=0, le=64)]
    leave_out: tuple[str, ...]
    oracle: bool
    panels: Panels
    worst: Panels
    train_panels: Panels
    precision: Literal["auto", "fp32", "bf16"]
    device: Literal["auto", "cpu", "cuda"]

    @model_validator(mode="after")
    def _strength_is_of_priors(self) -> "EvaluateParams":
        if not self.priors and self.prior_strength != 1:
            raise ValueError(
                f"prior_strength is {self.prior_strength:g}, but there are no priors: set it to 1, "
                f"or give priors"
            )
        return self


class SuggestParams(Section):
    """The next clicks, which the model chooses on train tiles and the dense masks answer."""

    measures: tuple[Literal["margin", "entropy", "disagreement"], ...]
    points: Count
    distance_px: Annotated[float, Field(ge=1, le=4096)]
    edge_px: Annotated[int, Field(strict=True, ge=0, le=32)]
    share: Annotated[float, Field(ge=0, le=1)]
    by_class: bool
    views: Literal["one", "d4"]
    precision: Literal["auto", "fp32", "bf16"]
    device: Literal["auto", "cpu", "cuda"]

    @model_validator(mode="after")
    def _one_view_disagrees_with_none(self) -> "SuggestParams":
        if "disagreement" in self.measures and self.views == "one":
            raise ValueError(
                "measure 'disagreement' is that of turned and flipped views, and views is 'one': "
                "set views to d4"
            )
        return self


class MachineParams(Section):
    """What the machine is: how much is done side by side, and where. No result depends on it."""

    workers: Annotated[int, Field(strict=True, ge=-1, le=256)]
    backend: Literal["loky", "threading", "dask"]
    readers: Literal["auto"] | Annotated[int, Field(strict=True, ge=0, le=256)]

    @model_validator(mode="after")
    def _somebody_works(self) -> "MachineParams":
        if self.workers == 0:
            raise ValueError("workers is 0: wanted 1 or more, or -1 for one a core")
        return self


class Params(Section):
    """All of params.yaml."""

    dataset: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    annotations: Annotated[str, Field(min_length=1)]
    points: Count
    seed: Seed
    synthetic: SyntheticParams
    tile: TileParams
    annotate: AnnotateParams
    train: TrainParams
    evaluate: EvaluateParams
    suggest: SuggestParams
    machine: MachineParams

    @model_validator(mode="after")
    def _values_go_together(self) -> "Params":
        if self.annotate.unit == "percent" and self.points > 100:
            raise ValueError(
                f"points is {self.points} with annotate.unit 'percent': wanted at most 100"
            )
        nothing_grows = self.annotate.grower == "none" and not self.train.self_training.rounds
        if self.train.grown_share is not None and nothing_grows:
            raise ValueError(
                f"train.grown_share is {self.train.grown_share}, but no label grows: set it to "
                f"null, or choose an annotate.grower or rounds of train.self_training"
            )
        if self.suggest.measures and self.annotate.unit not in ("per_tile", "total"):
            raise ValueError(
                f"annotate.unit is {self.annotate.unit!r}, but suggest.points counts clicks "
                f"per_tile or in total: choose one of these, or set suggest.measures to []"
            )
        if self.train.crop_px > self.tile.size_px:
            raise ValueError(
                f"train.crop_px is {self.train.crop_px}, larger than tile.size_px "
                f"{self.tile.size_px}: a crop is cut from one tile"
            )
        return self


def describe(params: Params) -> dict[str, str | int | float | None]:
    """Give the few settings that tell experiments apart, flat, as columns for the MLflow UI.

    For the record only: nothing that a stage writes for DVC may depend on it.
    """
    annotate, train = params.annotate, params.train
    return {
        "dataset": params.dataset,
        "points": params.points,
        "seed": params.seed,
        "sampler": annotate.sampler,
        "unit": annotate.unit,
        "grower": annotate.grower,
        "tile_size_px": params.tile.size_px,
        "downsample": params.tile.downsample,
        "model": train.model,
        "encoder": train.encoder,
        "weights": train.weights,
        "width": train.width,
        "epochs": train.epochs,
        "batch_size": train.batch_size,
        "crop_px": train.crop_px,
        "lr": train.lr,
        "loss": train.loss,
        "grown_share": train.grown_share,
        "consistency": train.consistency.weight,
        "crf": train.crf.weight,
        "self_training": train.self_training.rounds,
    }


def run_name(params: Params, now: datetime) -> str:
    """Name a run that DVC gives no name: dataset, points, and when it began."""
    return f"{Path(params.dataset).stem}-{params.points}-{now:%Y%m%d-%H%M%S}"


def load_params(path: Path) -> Params:
    """Read and validate all of params.yaml.

    Raises:
        ValueError: the file is no YAML mapping, or keys are missing, unknown or out of range; one
            message lists every fault with its key, its value and what is allowed.
        FileNotFoundError: there is no such file.
    """
    values = read_yaml(path)
    return validate(Params, values, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ValueError: the text is not YAML, or not a mapping.
        FileNotFoundError: there is no such file.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist: run the command from the project's root, or restore the file "
            f"with `git checkout {path.name}`"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML: {where}. Mend the line it names") from None
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} holds {'nothing' if values is None else repr(values)[:40]}, wanted lines of "
            f"`key: value`"
        )
    return values


def validate(model: type[ModelT], values: dict[str, Any], path: Path) -> ModelT:
    """Make a model of values that were read from a file.

    Raises:
        ValueError: one message with every fault: the key, what was got, what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [_describe(fault, model) for fault in error.errors()]
        count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ValueError("\n  - ".join([f"{path} has {count}:", *faults])) from None


def _describe(fault: Any, model: type[BaseModel]) -> str:
    """Say one of pydantic's faults as: key, got, wanted."""
    steps = list(fault["loc"])
    key = ".".join(str(step) for step in steps)
    got = repr(fault["input"])
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        known = sorted(_section_at(model, steps[:-1]).model_fields)
        near = difflib.get_close_matches(str(steps[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{key}: this key is unknown; {hint}"
    if kind == "missing":
        return f"{key}: this key is missing; add it"
    if kind in ("model_type", "model_attributes_type"):
        keys = ", ".join(_section_at(model, steps).model_fields)
        return f"{key}: got {got}, wanted a section with the keys {keys}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"])
        near = difflib.get_close_matches(str(fault["input"]), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{key}: got {got}, allowed: {context['expected']}{hint}"
    if kind == "value_error":
        return f"{key}: {context['error']}" if key else str(context["error"])
    field = _section_at(model, steps[:-1]).model_fields.get(str(steps[-1])) if steps else None
    wanted = _allowed(field) if field else ""
    return f"{key}: got {got}, wanted {wanted or fault['msg'].removeprefix('Input should be ')}"


def _allowed(field: FieldInfo) -> str:
    """Say what a field may hold: its type and its bounds; nothing where they are not simple."""
    kinds: dict[Any, str] = {int: "a whole number", float: "a number", str: "text"}
    if field.annotation not in kinds:
        return ""
    words = [kinds[field.annotation]]
    for rule in field.metadata:
        for name, phrase in _BOUNDS.items():
            bound = getattr(rule, name, None)
            if bound is not None:
                words.append(f"{phrase} {bound}")
    return ", ".join(words)


_BOUNDS = {
    "gt": "more than",
    "ge": "at least",
    "lt": "less than",
    "le": "at most",
    "multiple_of": "a multiple of",
    "min_length": "length at least",
    "pattern": "that matches",
}


def _section_at(model: type[BaseModel], steps: list[Any]) -> type[BaseModel]:
    """Walk from a model to the section that a fault lies in."""
    for step in steps:
        field = model.model_fields.get(str(step))
        model = (_section_in(field.annotation) if field else None) or model
    return model


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """Find the section in a type: itself, an optional one, or what a list holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)
