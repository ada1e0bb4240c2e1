"""A training run: fit the model, optionally in rounds of self-training, or resume it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pointcover.networks.architectures import MODELS
from pointcover.networks.build import BandStatistics, build_fitted
from pointcover.networks.description import Checkpoint
from pointcover.networks.pixel_classifiers.settings import PixelClassifierSettings
from pointcover.runtime.code_closure import code_files
from pointcover.runtime.devices import be_deterministic, make_fabric
from pointcover.runtime.fingerprint import environment_of, fingerprint
from pointcover.runtime.settings import MachineSettings
from pointcover.training.data import SparseLabels, TrainingData
from pointcover.training.fitters import FITTERS
from pointcover.training.results import Callbacks, Fitted, State
from pointcover.training.semi_supervised.self_training import PseudoLabeller, fit_in_rounds
from pointcover.training.settings import TrainSettings
from pointcover.training.step import Cast
from pointcover.training.task import TrainingTask


class TrainingRun:
    """The steps of a training task."""

    def __init__(self, task: TrainingTask) -> None:
        """Store the task."""
        self.task = task

    @classmethod
    def start(
        cls,
        settings: TrainSettings,
        seed: int,
        data: TrainingData,
        machine: MachineSettings,
    ) -> "TrainingRun":
        """Prepare the device; with several, one process of this program is started for each.

        Raises:
            ValueError: the device is not available.
        """
        fabric = make_fabric(settings.device, settings.precision, settings.devices)
        fabric.launch()
        be_deterministic()
        return cls(TrainingTask(fabric, settings, seed, data, machine))

    @property
    def is_main_process(self) -> bool:
        """Whether this process logs and writes; the others only compute."""
        return self.task.fabric.is_global_zero

    @property
    def precision(self) -> str:
        """The precision in which the network computes."""
        return str(self.task.fabric.strategy.precision.precision)

    def fit(self, callbacks: Callbacks, saved: State | None = None) -> tuple[Fitted, SparseLabels]:
        """Fit in all rounds, in every process; return the result and the last round's labels.

        Args:
            callbacks: of the main process.
            saved: the state to resume from, of the main process.
        """
        saved = self.task.fabric.broadcast(saved)
        rounds = self.task.settings.self_training.rounds
        return fit_in_rounds(self, rounds, self.task.data.labels, callbacks, saved)

    def assist(self) -> None:
        """Fit together with the main process, which reports and saves."""
        self.fit(Callbacks(report=lambda _: None))

    def fit_round(self, labels: SparseLabels, callbacks: Callbacks, saved: State | None) -> Fitted:
        """Fit a new model on the labels of a round, or resume that fit."""
        fitter = FITTERS[MODELS[self.task.settings.model].fitted_by]
        return fitter(self.task, labels, callbacks, saved)

    def pseudo_label(
        self, weights: dict[str, Tensor], classifier: PixelClassifierSettings | None
    ) -> SparseLabels:
        """Add the pseudo-labels of a model with these weights to the first labels."""
        task, fabric = self.task, self.task.fabric
        labelled: Any = None
        if fabric.is_global_zero:  # the others wait for its files
            tile_set = task.data.tile_set
            statistics = BandStatistics(tile_set.mean, tile_set.std)
            classes = len(tile_set.classes)
            model = build_fitted(task.settings, statistics, classes, classifier)
            model.load_state_dict(weights)
            network = Cast(fabric.to_device(model), fabric).eval()
            labelled = self._labeller().label(network, fabric.device, task.data.labels.tiles)
        return SparseLabels(
            fabric.broadcast(labelled), task.data.pseudo_labels, has_propagated=True
        )

    def _labeller(self) -> PseudoLabeller:
        settings, data = self.task.settings, self.task.data
        return PseudoLabeller(
            images=data.images,
            masks=data.labels.masks,
            out=data.pseudo_labels,
            tile_set=data.tile_set,
            settings=settings.self_training,
            batch_size=max(1, settings.batch_size // 2),
        )

    def remove_pseudo_labels(self) -> None:
        """Remove the masks with pseudo-labels."""
        shutil.rmtree(self.task.data.pseudo_labels, ignore_errors=True)

    def checkpoint(self, fitted: Fitted, labels: SparseLabels) -> Checkpoint:
        """Describe the fitted model.

        Args:
            fitted: the result of `fit`.
            labels: of its last round.
        """
        kept = fitted.kept
        outcome = {
            "kept_epoch": kept.epoch,
            "val_miou": kept.val_miou,
            "val_loss": kept.val_loss,
            "val_iou": kept.val_iou,
            "train_loss": kept.train_loss,
            "tiles_without_labels": self.task.data.tiles_without_labels,
        }
        fractions = fitted.class_fractions or self.task.class_fractions(labels)
        tile_set = self.task.data.tile_set
        return Checkpoint(self.task.settings, tile_set, outcome, fractions, fitted.classifier)

    def fingerprint(self, described: Mapping[str, Any], tile_set: Path, script: Path) -> str:
        """Return the fingerprint of everything that the result depends on.

        A training is resumed only from a state with the same fingerprint.

        Args:
            described: the settings in MLflow, which cannot change when a run is resumed.
            tile_set: the file that the tile set was read from.
            script: of the stage; its code and that of its imports are part of the fingerprint.
        """
        settings, data = self.task.settings, self.task.data
        weights = Path(settings.initial_weights)
        inputs = (data.images / "train", data.images / "val", tile_set, data.sparse, weights)
        files = {path.as_posix(): path for path in inputs if path.exists()} | code_files(script)
        deciding = {
            "seed": self.task.seed,
            "train": settings.model_dump(),
            "described": dict(described),
        }
        return fingerprint(deciding | environment_of(self.task.fabric.device.type), files)
