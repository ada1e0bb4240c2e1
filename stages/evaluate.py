"""Score the model on the test split, and draw what it gets right and wrong."""

from pointcover.stage import run_stage  # first: says which package is missing

# isort: split
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from tqdm import tqdm

from pointcover import tracking
from pointcover.devices import be_deterministic, make_fabric
from pointcover.figures import (
    draw_confusion,
    draw_panel,
    spread_evenly,
    view_errors,
    view_image,
    view_mask,
)
from pointcover.inference import predict
from pointcover.loading import TileDataset, tile_loader
from pointcover.metrics import confusion_matrix, scores
from pointcover.models.checkpoint import load_checkpoint, load_ensemble
from pointcover.params import EvaluateParams, Params, run_name
from pointcover.priors import check_priors, correct_logits, count_shares
from pointcover.processes import entered_whole
from pointcover.publishing import publish_csv, publish_folder, publish_json, read_json
from pointcover.tiles import read_index

TILES = Path("data/tiles")
SPARSE = Path("data/sparse")
MODELS = Path("models")
ANNOTATION = Path("metrics/annotate.json")
METRICS = Path("metrics/evaluate.json")
CONFUSION = Path("metrics/confusion.csv")
CONFUSION_HEADER = ("true", "predicted", "pixels", "share")
PANELS = Path("metrics/panels")
MLFLOW_PANELS = 8
logger = logging.getLogger(__name__)


def evaluate(params: Params) -> None:
    """Write metrics/evaluate.json, the confusion matrix and panels; end the MLflow run.

    Scored are the dense masks; where the dataset has none, the real annotations of the test split,
    which no training has seen.
    """
    settings = params.evaluate
    model, checkpoint, digest = load_checkpoint(MODELS)
    others = load_ensemble(Path(settings.ensemble), checkpoint.tile_set)
    classes, size_px = checkpoint.tile_set.classes, checkpoint.tile_set.size_px
    tiles = [tile for tile in read_index(TILES / "index.csv") if tile.split == "test"]
    shown = {tile.id for tile in spread_evenly(tiles, settings.panels)}
    has_masks = any(sum(tile.pixels) for tile in tiles)
    if not has_masks:
        tiles = [tile for tile in read_index(SPARSE / "index.csv") if tile.split == "test"]
    if not any(sum(tile.pixels) for tile in tiles):
        raise ValueError(
            "the test split has neither dense masks nor real annotations to score on: annotate "
            "test orthophotos too, or mend `split` in the card"
        )
    masks_folder = TILES / "masks" if has_masks else SPARSE / "clicks"
    scored_on = "dense masks" if has_masks else "held-out annotations"
    test_set = TileDataset(tiles, TILES / "images", masks_folder, size_px)
    correct = correction_of(settings, classes.names)
    fabric = make_fabric(settings.device, settings.precision)
    be_deterministic()
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    remaining = iter(tiles)
    with publish_folder(PANELS) as out:
        progress = tqdm(total=len(tiles), desc="evaluating", unit="tile", leave=False, disable=None)
        for images, masks, predictions in predict(
            fabric, [model, *others], tile_loader(test_set, settings.batch_size),
            average_views=settings.views == "d4", correct=correct,
        ):  # fmt: skip
            confusion += confusion_matrix(predictions, masks, len(classes)).cpu().numpy()
            for image, mask, prediction in zip(
                images.cpu().numpy(), masks.cpu().numpy(), predictions.cpu().numpy(), strict=True
            ):
                tile = next(remaining)
                progress.update()
                if tile.id in shown:
                    views = [
                        ("image", view_image(image)),
                        (scored_on, view_mask(mask, classes)),
                        ("prediction", view_mask(prediction, classes)),
                        ("errors (red)", view_errors(prediction, mask)),
                    ]
                    draw_panel(out / f"{tile.id}.png", f"{tile.id} ({tile.region})", views, classes)
        draw_confusion(out / "confusion.png", confusion, classes.names)
        progress.close()
    result = {"scored_on": scored_on, "models": 1 + len(others)} | scores(confusion, classes.names)
    if correct:
        result |= {"priors": settings.priors, "prior_strength": settings.prior_strength}
    publish_json(METRICS, result)
    publish_csv(CONFUSION, CONFUSION_HEADER, rows_of(confusion, classes.names))

    def open_run() -> tracking.Run:
        """Go on with the run that trained the model."""
        return tracking.resume_training_run(
            tracking.project_root(), digest, run_name(params, datetime.now()),
            tags={"ensemble": f"{1 + len(others)} models"} if others else {}, apart=bool(others),
        )  # fmt: skip

    with entered_whole(open_run) as run:
        run.log_metrics(metrics_of(result) | cost_of(read_json(ANNOTATION)["train"]))
        run.log_file(ANNOTATION)
        run.log_dict(result, "test.json")
        for picture in sorted(PANELS.glob("*.png"))[:MLFLOW_PANELS]:
            run.log_file(picture, "panels")
    logger.info(
        "test mIoU %.3f, accuracy %.3f, on %s", result["miou"] or 0, result["accuracy"] or 0,
        scored_on,
    )  # fmt: skip


def correction_of(
    settings: EvaluateParams, names: tuple[str, ...]
) -> Callable[[Tensor], Tensor] | None:
    """Give what takes logits from the training labels' shares of classes to those of the land.

    Raises:
        ValueError: priors name other classes than there are, or a class has no training label.
    """
    if not settings.priors:
        return None
    priors = check_priors(settings.priors, names)
    labelled = [tile.pixels for tile in read_index(SPARSE / "index.csv") if tile.split == "train"]
    shares = count_shares([sum(counts) for counts in zip(*labelled, strict=True)], names)
    return partial(correct_logits, priors=priors, label_shares=shares, tau=settings.prior_strength)


def metrics_of(result: dict[str, Any]) -> dict[str, float | None]:
    """Name the scores as MLflow shows them."""
    by_class = {f"test/iou/{name}": entry["iou"] for name, entry in result["by_class"].items()}
    return {"test/miou": result["miou"], "test/accuracy": result["accuracy"], **by_class}


def cost_of(labels: dict[str, Any]) -> dict[str, float | None]:
    """Name what the training labels cost, and how many of the grown ones are wrong."""
    shown = ("clicks", "grown_pixels", "labelled_share", "error")
    return {f"labels/{name}": labels[name] for name in shown}


def rows_of(
    confusion: npt.NDArray[np.int64], names: tuple[str, ...]
) -> Iterator[tuple[str, str, int, float]]:
    """Give a confusion matrix as rows of CONFUSION_HEADER; share is of the true class."""
    for i, true in enumerate(names):
        total = int(confusion[i].sum())
        for j, predicted in enumerate(names):
            pixels = int(confusion[i, j])
            yield true, predicted, pixels, round(pixels / total, 6) if total else 0


if __name__ == "__main__":
    run_stage(evaluate)
