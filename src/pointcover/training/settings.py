"""Settings of training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pointcover.prediction.settings import NeighbourSettings
from pointcover.validation import Count, Section, Share, Weight


class ConsistencySettings(Section):
    """Learning from unlabelled pixels: as in other colours, so in these."""

    weight: Weight
    threshold: Annotated[float, Field(gt=0, le=1)]
    colour_jitter: Share
    blur_px: Annotated[float, Field(ge=0, le=10)]
    cutout: Share


class CrfSettings(NeighbourSettings):
    """Learning from unlabelled pixels: neighbours of like colour are of one class."""

    scale: Literal[1, 2, 4, 8]


class SelfTrainingSettings(Section):
    """Learning from unlabelled pixels: rounds that label for the next one."""

    rounds: Annotated[int, Field(strict=True, ge=0, le=10)]
    threshold: Share
    top_fraction: Annotated[float, Field(gt=0, le=1)] | None


class TrainSettings(Section):
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
    propagated_loss_fraction: Annotated[float, Field(gt=0, lt=1)] | None
    consistency: ConsistencySettings
    crf: CrfSettings
    self_training: SelfTrainingSettings
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
    def _encoder_is_there_where_it_must_be(self) -> "TrainSettings":
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
    def _every_setting_acts(self) -> "TrainSettings":
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
