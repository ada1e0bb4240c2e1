"""`pointcover evaluate`: score a model on the test split of another dataset."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pointcover.cli.options import check_outputs

METRICS = "evaluate.json"
TABLES = "tables"
CONFUSION = "confusion.csv"
PANELS = "panels"


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A folder with model.pt and model.json, an MLflow run (runs:/ID) or a registered "
            "model (models:/NAME@champion)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The new folder for scores, tables and panels.")],
    tiles: Annotated[Path, typer.Option(help="Output folder of the tile stage.")] = Path(
        "data/tiles"
    ),
    sparse: Annotated[
        Path,
        typer.Option(
            help="Output folder of the annotate stage, whose labels are scored where there are no "
            "dense masks."
        ),
    ] = Path("data/sparse"),
    params: Annotated[
        Path, typer.Option(help="The settings, of which the section `evaluate` is used.")
    ] = Path("params.yaml"),
) -> None:
    """Score a model on the test split of tiles that it was not trained on.

    The tiles have the model's classes: the card of their dataset may map its own classes to them
    (`map_classes`).
    """
    from pointcover.runtime.atomic_files import removing_empty_folder
    from pointcover.runtime.errors import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover evaluate"), removing_empty_folder(out):
        from tempfile import TemporaryDirectory

        from pointcover.config.params import load_params
        from pointcover.evaluation.evaluator import EvaluationFolders, Evaluator
        from pointcover.models.fetch import fetch_model
        from pointcover.models.references import check_reference, is_in_mlflow, path_of
        from pointcover.runtime.atomic_files import publish_folder, publish_json
        from pointcover.tileset.tiles import read_tile_set
        from pointcover.tracking.store import project_root

        if out.exists():
            raise FileExistsError(f"{out} exists: name a new folder")
        check_outputs(out / METRICS, force=False)
        check_reference(model, project_root())
        loaded = load_params(params)
        settings = loaded.evaluate.model_copy(update={"train_panels": 0})
        with TemporaryDirectory() as folder:
            path = (
                fetch_model(project_root(), model, Path(folder))
                if is_in_mlflow(model)
                else path_of(model)
            )
            if path.is_file():
                raise ValueError(
                    f"{path} is an ONNX file, wanted the folder of the model that it was made of"
                )
            evaluator = Evaluator(settings, EvaluationFolders(tiles, sparse, path), loaded.machine)
            splits = evaluator.count_splits()
            result = evaluator.summarise(splits)
            with publish_folder(out) as aside:
                publish_json(
                    aside / METRICS,
                    {"model": model, "model_sha256": evaluator.model_sha256} | result,
                )
                evaluator.write_tables(aside / TABLES, splits)
                evaluator.write_confusion(aside / CONFUSION, splits[0])
                evaluator.draw(aside / PANELS, splits[0])
        trained, scored = evaluator.checkpoint.tile_set, read_tile_set(tiles / "tiles.json")
        if any(not trained.knows_gsd(gsd_m) for gsd_m in scored.gsds_m):
            typer.echo(
                f"note: the tiles have a GSD of {scored.show_gsds()}, the model was trained on "
                f"{trained.show_gsds()}",
                err=True,
            )
        if evaluator.other_models:
            typer.echo(
                f"note: the softmax is averaged with that of the models in {settings.ensemble} "
                f"(`evaluate.ensemble` of {params})",
                err=True,
            )
        typer.echo(f"{out / METRICS}: {describe_scores(result)}", err=True)


def describe_scores(result: dict[str, Any]) -> str:
    """Return the scores of an evaluation, and of how many models and on what they are."""
    miou, accuracy = (
        "none" if result[name] is None else f"{result[name]:.3f}" for name in ("miou", "accuracy")
    )
    count = result["model_count"]
    return (
        f"test mIoU {miou}, accuracy {accuracy}, of {count} model{'s' * (count > 1)}, on "
        f"{result['scored_on']}"
    )
