"""The command line: what one wants of a run that is no stage of the pipeline.

Only typer is imported here, each command imports what it needs: `pointcover --help` does not wait.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def describe() -> None:
    """Land-cover maps from a handful of labelled points."""


@app.command()
def points(
    out: Annotated[
        Path, typer.Argument(help="The GeoPackage to write; its style lies beside it as .qml.")
    ],
    sparse: Annotated[Path, typer.Option(help="What the annotate stage wrote.")] = Path(
        "data/sparse"
    ),
    tiles: Annotated[Path, typer.Option(help="What the tile stage wrote.")] = Path("data/tiles"),
    limit: Annotated[int, typer.Option(min=1, help="Most points to write.")] = 1_000_000,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write the clicks of this run as points for QGIS: class, split, orthophoto and tile."""
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover points"):
        from tqdm import tqdm

        from pointcover.tiles import read_index, read_tile_set
        from pointcover.vectors.writing import write_points

        there = [path for path in (out, out.with_suffix(".qml")) if path.exists()]
        if there and not force:
            raise FileExistsError(
                f"{' and '.join(str(path) for path in there)} exists: choose another name, or say "
                f"--force to replace it"
            )
        classes = read_tile_set(tiles / "tiles.json").classes
        index = read_index(sparse / "index.csv")
        progress = tqdm(index, desc="collecting", unit="tile", leave=False, disable=None)
        layers = write_points(out, progress, sparse / "clicks", classes, limit=limit)
        counts = ", ".join(f"{count} in layer {name!r}" for name, count in layers.items())
        typer.echo(f"{out}: {counts}", err=True)


@app.command()
def study(
    plan: Annotated[Path, typer.Argument(help="The study file, such as studies/c_linking.yaml.")],
    scale: Annotated[
        Literal["full", "small"],
        typer.Option(help="full, or small: what the file's `small` makes of it, in minutes."),
    ] = "full",
    jobs: Annotated[int, typer.Option(min=1, help="Experiments to run side by side.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Where results and report go.", show_default="reports/NAME")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing: write the report anew.")
    ] = False,
) -> None:
    """Run the experiments of a study that are not known yet, and report what labels bought."""
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover study"):
        from pointcover.processes import end_on_signals
        from pointcover.study.conducting import conduct, rewrite_report

        folder = out or Path("reports") / (plan.stem + ("-small" if scale == "small" else ""))
        if report_only:
            rewrite_report(plan, folder, scale)
            typer.echo(f"{folder}/report.html", err=True)
            return
        end_on_signals()
        gpus = 0
        if jobs > 1:  # torch takes seconds to import
            from pointcover.devices import count_gpus

            gpus = count_gpus()
        done = conduct(plan, Path.cwd(), folder, scale=scale, at_once=jobs, gpus=gpus)
        typer.echo(
            f"{folder}/report.html: {len(done.records)} of {done.count} experiments", err=True
        )
        if done.failed:
            raise ValueError(done.complaint())


@app.command()
def sync() -> None:
    """Give MLflow the DVC experiments that came wholly from the cache: they ran no stage."""
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover sync"):
        from pointcover.syncing import sync as record_missing

        recorded, unreadable = record_missing(Path.cwd())
        typer.echo(
            f"{len(recorded)} recorded: {', '.join(recorded) or 'nothing was missing'}", err=True
        )
        if unreadable:
            reasons = "\n".join(f"  - {name}: {reason}" for name, reason in unreadable.items())
            raise ValueError(f"{len(unreadable)} experiments could not be recorded:\n{reasons}")
