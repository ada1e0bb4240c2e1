"""A training task: settings, seed, data and device, and what fitters derive from them."""

from dataclasses import dataclass

from pointcover.networks.build import BandStatistics, build_model
from pointcover.networks.segmenter import Segmenter
from pointcover.runtime.devices import Fabric, count_readers
from pointcover.runtime.settings import MachineSettings
from pointcover.training.crops import crop_weights
from pointcover.training.data import SparseLabels, TrainingData
from pointcover.training.loss_fractions import (
    class_fractions,
    expect_labels,
    loss_fractions,
    needs_point_labels,
)
from pointcover.training.losses.make import make_loss
from pointcover.training.losses.partial import Loss
from pointcover.training.settings import TrainSettings


@dataclass(frozen=True)
class TrainingTask:
    """What is trained; the same for every round."""

    fabric: Fabric
    settings: TrainSettings
    seed: int
    data: TrainingData
    machine: MachineSettings

    @property
    def readers(self) -> int:
        """Number of processes that read crops for each training process."""
        return count_readers(self.machine.readers, self.fabric)

    def build_model(self) -> Segmenter:
        """Build the model with its initial weights, which are the same each time."""
        tile_set = self.data.tile_set
        model = build_model(
            self.settings,
            BandStatistics(tile_set.mean, tile_set.std),
            len(tile_set.classes),
            weights=self.settings.initial_weights,
            seed=self.seed,
        )
        if self.settings.freeze_encoder:
            model.freeze_encoder()
        return model

    def settings_for(self, labels: SparseLabels) -> TrainSettings:
        """Return the settings of a round: without propagated labels the loss has one fraction."""
        if labels.has_propagated:
            return self.settings
        return self.settings.model_copy(update={"propagated_loss_fraction": None})

    def loss(self, labels: SparseLabels) -> Loss:
        """Return the loss of a round; balanced class weights depend on its labels."""
        names = self.data.tile_set.classes.names
        return make_loss(self.settings, names, labels.pixels_by_class)

    def class_fractions(self, labels: SparseLabels) -> tuple[float, ...]:
        """Return each class's fraction of the loss of a round, which priors replace."""
        settings, tiles = self.settings_for(labels), labels.labelled
        in_crops = expect_labels(
            tiles,
            labels.masks,
            self.data.clicks(are_needed=needs_point_labels(settings)),
            size_px=self.data.tile_set.size_px,
            crop_px=settings.crop_px,
        )
        crops = crop_weights(tiles, settings.crop_px, settings.balance)
        class_weights = self.loss(labels).class_weights
        return class_fractions(crops, in_crops, class_weights, loss_fractions(settings))
