"""`pointcover assess`: estimate a map's accuracy and areas from a labelled sample."""

from pathlib import Path
from typing import Annotated

import typer

from pointcover.cli.options import Force
from pointcover.cli.sample import Maps, Names


def assess(
    maps: Maps,
    sample: Annotated[
        Path, typer.Argument(help="The file of `pointcover sample`, with its classes filled in.")
    ],
    out: Annotated[
        Path, typer.Option(help="The folder for the report: HTML, Markdown, CSV, JSON, pictures.")
    ],
    other_map: Annotated[
        bool,
        typer.Option(
            "--other-map",
            help="The maps are not those that the sample was drawn from, but of the same land: its "
            "strata stay (Stehman 2014).",
        ),
    ] = False,
    names: Names = None,
    force: Force = False,
) -> None:
    """Estimate accuracy and areas of maps, with intervals of 95 %, from a labelled sample."""
    from pointcover.runtime.errors import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover assess"):
        from pointcover.assessment.record import record
        from pointcover.assessment.report import HTML, check_folder, write_report
        from pointcover.assessment.tables import sentence_of
        from pointcover.assessment.tasks import AssessmentTask
        from pointcover.tracking.store import project_root

        check_folder(out, force=force)
        said = names.split(",") if names else None
        found = AssessmentTask(maps, sample, said, other_map).estimate()
        write_report(out, found)
        for text in found.remarks:
            typer.echo(f"note: {text}", err=True)
        for class_id in range(len(found.classes)):
            typer.echo(sentence_of(found, class_id))
        name = f"{sample.stem}-{out.name}" if other_map else sample.stem
        run = record(project_root(), found, out, name)
        if run is not None:
            typer.echo(f"note: recorded in MLflow run {run}", err=True)
        typer.echo(f"{out / HTML}: {found.estimator}, {found.labelled} points", err=True)
