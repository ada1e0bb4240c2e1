"""A training run: fit the model, in rounds of self-training if asked for, and resume."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from pointcover.networks.architectures import MODELS
from pointcover.networks.checkpoint import Checkpoint
from pointcover.runtime.code_closure import code_files
from pointcover.runtime.devices import be_deterministic, count_readers, make_fabric
from pointcover.runtime.fingerprint import environment_of, fingerprint
from pointcover.training.data import SparseLabels, TrainingData
from pointcover.training.fitters import FITTERS
from pointcover.training.results import Callbacks, Fitted, State
from pointcover.training.semi_supervised.self_training import PseudoLabeller, fit_in_rounds
from pointcover.training.settings import TrainSettings
from pointcover.training.step import Cast
from pointcover.training.task import TrainingTask


class TrainingRun:
    """A training task, and the steps of carrying it out."""

    def __init__(self, task: TrainingTask) -> None:
        """Take the task."""
        self.task = task

    @classmethod
    def start(
        cls,
        settings: TrainSettings,
        seed: int,
        data: TrainingData,
        readers: int | Literal["auto"],
    ) -> "TrainingRun":
        """Prepare the device; with several, this program runs once for each from here on.

        Raises:
            ValueError: there is no such device.
        """
        fabric = make_fabric(settings.device, settings.precision, settings.devices)
        fabric.launch()
        be_deterministic()
        return cls(TrainingTask(fabric, settings, seed, data, count_readers(readers, fabric)))

    @property
    def is_main_process(self) -> bool:
        """Whether this process records and writes; the others only compute."""
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
        """Compute with the main process, which reports and saves."""
        self.fit(Callbacks(report=lambda _: None))

    def fit_round(self, labels: SparseLabels, callbacks: Callbacks, saved: State | None) -> Fitted:
        """Fit a new model on labels, or resume that."""
        fitter = FITTERS[MODELS[self.task.settings.model].fitted_by]
        return fitter(self.task, labels, callbacks, saved)

    def pseudo_label(self, weights: dict[str, Tensor]) -> SparseLabels:
        """Add the pseudo-labels of a model with these weights to the first labels."""
        task, fabric = self.task, self.task.fabric
        labelled: Any = None
        if fabric.is_global_zero:  # the others wait for its files
            model = task.build_model()
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
        fractions = self.task.class_fractions(labels)
        return Checkpoint(self.task.settings, self.task.data.tile_set, outcome, fractions)

    def fingerprint(self, described: Mapping[str, Any], tile_set: Path, script: Path) -> str:
        """Return the fingerprint of all that decides the result; only the same one resumes.

        Args:
            described: the settings that MLflow keeps, which cannot change when a run is resumed.
            tile_set: the file that the tile set was read from.
            script: of the stage; its code and that of its imports count.
        """
        settings, data = self.task.settings, self.task.data
        weights = Path(settings.weights)
        inputs = (data.images / "train", data.images / "val", tile_set, data.sparse, weights)
        files = {path.as_posix(): path for path in inputs if path.exists()} | code_files(script)
        deciding = {
            "seed": self.task.seed,
            "train": settings.model_dump(),
            "described": dict(described),
        }
        return fingerprint(deciding | environment_of(self.task.fabric.device.type), files)
