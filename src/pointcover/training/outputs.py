"""Output files of a training: the model, its scores and the learning curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pointcover.figures import draw_curves
from pointcover.networks.checkpoint import save_checkpoint
from pointcover.networks.description import Checkpoint
from pointcover.runtime.atomic_files import publish_csv, publish_folder, publish_json


@dataclass(frozen=True)
class TrainingOutputs:
    """Where the files of a training are written."""

    models: Path
    """Folder of model.pt and model.json."""
    metrics: Path
    curves: Path
    figure: Path

    def write(
        self,
        checkpoint: Checkpoint,
        weights: dict[str, Tensor],
        rows: Sequence[dict[str, Any]],
    ) -> str:
        """Write all files; return the SHA-256 of model.pt.

        Args:
            checkpoint: describes the model.
            weights: of the model.
            rows: of the learning curves, one an epoch.
        """
        with publish_folder(self.models) as out:
            digest = save_checkpoint(out, checkpoint, weights)
        publish_json(self.metrics, checkpoint.training)
        publish_csv(self.curves, list(rows[0]), [list(row.values()) for row in rows])
        draw_curves(self.figure, rows)
        return digest
