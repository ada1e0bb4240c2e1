"""Ways of fitting a model. A way is one function and one line of FITTERS."""

import logging
from collections.abc import Callable
from typing import Final

from pointcover.networks.architectures import GRADIENT_DESCENT
from pointcover.tileset.dataset import tile_loader
from pointcover.training.crops import train_loader
from pointcover.training.data import SparseLabels
from pointcover.training.fit import Problem, fit
from pointcover.training.loss_fractions import needs_point_labels
from pointcover.training.results import Callbacks, Fitted, State
from pointcover.training.task import TrainingTask

logger = logging.getLogger(__name__)

Fitter = Callable[[TrainingTask, SparseLabels, Callbacks, State | None], Fitted]
"""Fits a new model on the labels of a round; arguments and result are as of `fit`."""


def fit_network(
    task: TrainingTask, labels: SparseLabels, callbacks: Callbacks, saved: State | None
) -> Fitted:
    """Fit a new network by gradient descent."""
    settings, data = task.settings_for(labels), task.data
    crops = train_loader(
        data.train_set(labels, with_clicks=needs_point_labels(settings)),
        settings,
        bands=len(data.tile_set.mean),
        workers=task.readers,
        seed=task.seed,
    )
    val = tile_loader(data.val_set(), max(1, settings.batch_size // 2), task.readers)
    if saved:
        logger.info("resuming after epoch %d of %d", len(saved["results"]), settings.epochs)
    model, loss = task.build_model(), task.loss(labels)
    problem = Problem(model, crops, val, loss, data.tile_set.classes.names)
    return fit(task.fabric, problem, settings, callbacks, saved)


FITTERS: Final[dict[str, Fitter]] = {GRADIENT_DESCENT: fit_network}
"""All ways of fitting, by `Architecture.fitted_by`."""
