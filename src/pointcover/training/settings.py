"""Settings of training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from pointcover.networks.architectures import MODELS, PIXEL_CLASSIFIER
from pointcover.networks.settings import NetworkSettings
from pointcover.training.augmentation_levels import AUGMENTATIONS
from pointcover.training.choice import Choice
from pointcover.training.classifiers.settings import ClassifierSettings
from pointcover.training.losses import LOSSES
from pointcover.training.optimisers import OPTIMISERS
from pointcover.training.schedules import SCHEDULES
from pointcover.training.semi_supervised.settings import (
    ConsistencySettings,
    GatedCrfSettings,
    SelfTrainingSettings,
)
from pointcover.validation import ClassName, Count, Fraction, OneOf

Balance = Literal["none", "region", "class"]

NO_FILE: Final = "sources/none"
"""An empty file that stands for no weights file, since DVC wants a dependency that exists."""


class TrainSettings(NetworkSettings):
    """The model and how it is fitted."""

    weights: Annotated[
        Literal["imagenet", "none"],
        Field(
            description="Initial weights of the encoder, if weights_file is `sources/none`: "
            "imagenet (pretrained) or none (random)."
        ),
    ]
    weights_file: Annotated[
        str,
        Field(
            min_length=1,
            description="Path of a file with the initial weights of the encoder (.pt, .pth, .ckpt "
            "or .safetensors); `sources/none` means none.",
        ),
    ]
    freeze_encoder: Annotated[
        bool,
        Field(
            description="Whether a network's encoder keeps its weights, and only the decoder is "
            "trained. Classifiers of pixel features have a frozen encoder always."
        ),
    ]
    classifier: ClassifierSettings
    epochs: Annotated[Count, Field(description="Number of epochs of a network.")]
    batch_size: Annotated[int, Field(strict=True, ge=2, description="Crops in a batch.")]
    crop_px: Annotated[
        int,
        Field(
            strict=True,
            ge=64,
            le=4096,
            multiple_of=32,
            description="Height and width of the random crops, pixels, a multiple of 32.",
        ),
    ]
    accumulate: Annotated[
        Count,
        Field(
            description="Batches whose gradients are accumulated for one step: the result of a "
            "larger batch in the memory of one."
        ),
    ]
    loss: Annotated[
        str,
        OneOf(LOSSES),
        Field(
            description="Loss on the labelled pixels; focal gives pixels with a high probability "
            "of their class less weight."
        ),
    ]
    gamma: Annotated[
        Annotated[float, Field(gt=0, le=10)] | None,
        Field(description="Exponent of the focal loss; null for 2."),
    ]
    class_weighting: Annotated[
        Literal["none", "square_root", "balanced"],
        Field(
            description="Class weights: none; balanced, which gives the labels of each class the "
            "same total weight: better at few clicks and on other regions; or square_root, their "
            "square roots: better at many clicks on images like the labelled ones."
        ),
    ]
    class_weights: Annotated[
        dict[ClassName, Annotated[float, Field(gt=0, le=1e6)]],
        Field(description="Weights of classes in the loss, by name, {water: 3}; others have 1."),
    ]
    label_smoothing: Annotated[
        float,
        Field(ge=0, lt=1, description="Fraction of each label that is spread over all classes."),
    ]
    propagated_loss_fraction: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        Field(
            description="Fraction of the loss for labels from propagation and self-training; "
            "point labels have the rest. null gives all labelled pixels the same weight."
        ),
    ]
    consistency: ConsistencySettings
    crf: GatedCrfSettings
    self_training: SelfTrainingSettings
    optimiser: Annotated[str, OneOf(OPTIMISERS), Field(description="Optimiser.")]
    lr: Annotated[
        float, Field(gt=0, le=1, description="Highest learning rate, reached after the warm-up.")
    ]
    weight_decay: Annotated[float, Field(ge=0, le=1, description="Weight decay.")]
    momentum: Annotated[float, Field(ge=0, lt=1, description="Momentum of optimiser sgd.")]
    nesterov: Annotated[
        bool, Field(description="Whether optimiser sgd uses Nesterov's accelerated gradient.")
    ]
    clip_norm: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Field(description="Largest norm of the gradients, which are clipped to it; null for none."),
    ]
    schedule: Annotated[
        str,
        OneOf(SCHEDULES),
        Field(
            description="Learning-rate schedule, after the warm-up; plateau drops by the sparse "
            "val mIoU."
        ),
    ]
    warmup: Annotated[
        Fraction,
        Field(
            description="Fraction of the steps (of a round of self-training) in which the "
            "learning rate rises; consistency and crf begin after it."
        ),
    ]
    drop_factor: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Schedules step and plateau: factor of the learning rate at a drop.",
        ),
    ]
    drop_epochs: Annotated[
        Count,
        Field(
            description="Schedule step: epochs between drops. Schedule plateau: epochs without a "
            "better sparse val mIoU before a drop."
        ),
    ]
    patience: Annotated[
        Count | None,
        Field(
            description="Early stopping: epochs without a better sparse val mIoU after which "
            "training stops; null for none."
        ),
    ]
    ema_decay: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Decay of the EMA weights (exponential moving average), which are "
            "validated and kept; 0 means no averaging.",
        ),
    ]
    keep: Annotated[
        Literal["best", "last"],
        Field(
            description="Epoch whose weights are kept: best by the sparse val mIoU, or last, for "
            "example if val is a single region."
        ),
    ]
    augmentation: Annotated[
        str,
        OneOf(AUGMENTATIONS),
        Field(
            description="none (crops only), weak (flips and rotations), medium (also colours; "
            "worse on dark images), strong (also scale, blur, noise and cutout)."
        ),
    ]
    zoom: Annotated[
        Annotated[float, Field(ge=1, le=4)] | None,
        Field(
            description="Crops cover 1/zoom to zoom times their size on the ground: 2 if GSDs "
            "differ. null for 1, or 1.5 with augmentation strong."
        ),
    ]
    balance: Annotated[
        Balance,
        Field(
            description="How tiles are drawn for crops: none (by area), region (all regions "
            "equally often), class (all classes equally often)."
        ),
    ]
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Field(description="Floating-point precision; auto is bf16 if the processor supports it."),
    ]
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Field(description="Device; auto is a GPU if there is one."),
    ]
    devices: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=64,
            description="Number of GPUs (or processes on a CPU), each with a part of every batch.",
        ),
    ]

    @property
    def initial_weights(self) -> str:
        """The initial weights of the encoder: `imagenet`, `none`, or the path of a file."""
        return self.weights if self.weights_file == NO_FILE else self.weights_file

    @property
    def _said_weights(self) -> str:
        has_file = self.weights_file != NO_FILE
        return f"weights_file {self.weights_file!r}" if has_file else f"weights {self.weights!r}"

    @field_validator("weights_file")
    @classmethod
    def _a_file_is_no_name_of_weights(cls, path: str) -> str:
        if path in ("none", "imagenet"):
            raise ValueError(
                f"got {path!r}, wanted the path of a file, or {NO_FILE} for none: {path} is a "
                f"value of weights"
            )
        return path

    @field_validator("weights", mode="before")
    @classmethod
    def _a_file_has_a_setting_of_its_own(cls, weights: Any) -> Any:
        if isinstance(weights, str) and (Path(weights).suffix or "/" in weights):
            raise ValueError(
                f"got {weights!r}, wanted imagenet or none: set weights_file to the path of a file"
            )
        return weights

    @model_validator(mode="after")
    def _encoder_is_set_where_it_must_be(self) -> "TrainSettings":
        architecture = MODELS[self.model]
        weights = self.initial_weights
        if not architecture.has_encoder:
            if self.encoder != "none" or weights != "none":
                raise ValueError(
                    f"model {self.model!r} has no encoder: got encoder {self.encoder!r} and "
                    f"{self._said_weights}, wanted encoder none, weights none and weights_file "
                    f"{NO_FILE}"
                )
        elif not architecture.needs_encoder:
            if (self.encoder == "none") != (weights == "none"):
                raise ValueError(
                    f"model {self.model!r} has a frozen encoder, which needs its weights: got "
                    f"encoder {self.encoder!r} and {self._said_weights}, wanted an encoder with "
                    f"weights imagenet or a weights_file, or encoder none, weights none and "
                    f"weights_file {NO_FILE}"
                )
        elif self.encoder == "none":
            raise ValueError(
                f"model {self.model!r} needs an encoder, got 'none': try "
                f"{architecture.examples[0]}, or model unet_scratch"
            )
        return self

    @model_validator(mode="after")
    def _a_frozen_encoder_has_weights(self) -> "TrainSettings":
        if self.freeze_encoder and self.initial_weights == "none":
            raise ValueError(
                f"freeze_encoder keeps the weights of the encoder, and weights is 'none' (random): "
                f"got encoder {self.encoder!r}, set weights to imagenet, or weights_file to a "
                f"file, or freeze_encoder to false"
            )
        return self

    @model_validator(mode="after")
    def _one_process_fits_a_classifier(self) -> "TrainSettings":
        if MODELS[self.model].fitted_by == PIXEL_CLASSIFIER and self.devices > 1:
            raise ValueError(
                f"model {self.model!r} is fitted by one process: set devices to 1, not "
                f"{self.devices}"
            )
        return self

    @model_validator(mode="after")
    def _a_classifier_has_no_loss_terms(self) -> "TrainSettings":
        if MODELS[self.model].fitted_by == PIXEL_CLASSIFIER:
            wanted = {
                "loss": "cross_entropy",
                "label_smoothing": 0,
                "consistency": self.consistency.model_copy(update={"weight": 0}),
                "crf": self.crf.model_copy(update={"weight": 0}),
            }
            wrong = [key for key, value in wanted.items() if getattr(self, key) != value]
            if wrong:
                raise ValueError(
                    f"{', '.join(wrong)}: no effect on model {self.model!r}, a classifier of pixel "
                    f"features. Choose a network, such as model unet, or leave loss at "
                    f"cross_entropy and the others at 0"
                )
        return self

    @model_validator(mode="after")
    def _every_setting_has_an_effect(self) -> "TrainSettings":
        if self._is_used("nesterov") and self.nesterov and not self.momentum:
            raise ValueError(
                "nesterov needs momentum, and momentum is 0: set nesterov to false, or momentum "
                "to 0.9"
            )
        if self.gamma is not None and not self._is_used("gamma"):
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
        if SCHEDULES[self.schedule].needs_warmup and not self.warmup:
            raise ValueError(
                f"schedule {self.schedule!r} begins with a warm-up, and warmup is 0: set warmup to "
                f"0.3, or schedule to cosine"
            )
        for key, is_used in (("patience", True), ("drop_epochs", self._is_used("drop_epochs"))):
            epochs = getattr(self, key)
            if is_used and epochs is not None and epochs >= self.epochs:
                raise ValueError(
                    f"{key} is {epochs}, but training ends after {self.epochs} epochs: wanted "
                    f"fewer, or more epochs"
                )
        return self

    def _is_used(self, option: str) -> bool:
        """Return whether one of the chosen functions takes an option."""
        return any(
            option in registry[getattr(self, key)].options for key, registry in CHOICES.items()
        )


CHOICES: Final[dict[str, Mapping[str, Choice[Any]]]] = {
    "loss": LOSSES,
    "optimiser": OPTIMISERS,
    "schedule": SCHEDULES,
}
"""Settings that choose a function, with the registry of each."""
