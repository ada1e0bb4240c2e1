"""`pointcover study`: run the experiments of a study and report them."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def study(
    plan: Annotated[Path, typer.Argument(help="The study file, such as studies/c_linking.yaml.")],
    scale: Annotated[
        Literal["full", "small"],
        typer.Option(help="full; or small: with the settings of `small` in the file, in minutes."),
    ] = "full",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "-S",
            help="KEY=VALUE: override a setting of all experiments, such as source=/data/potsdam. "
            "May be repeated.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments to run in parallel.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder of results and report.", show_default="reports/NAME")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write the report again; run nothing.")
    ] = False,
) -> None:
    """Run the experiments of a study that have no results yet, and write the report.

    A study compares methods, or searches settings by their validation score (`search`).
    """
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover study"):
        from pointcover.runtime.signals import end_on_signals
        from pointcover.study.conducting import StudyRun, conduct, rewrite_report
        from pointcover.study.plan import parse_setting
        from pointcover.study.running import JobPool
        from pointcover.study.searching import conduct_search, is_search, rewrite_search_report

        folder = out or Path("reports") / StudyRun(plan, scale).name
        given = dict(parse_setting(text) for text in settings or ())
        searches = is_search(plan, scale)
        if report_only:
            if searches:
                rewrite_search_report(StudyRun(plan, scale, given), Path.cwd(), folder)
            else:
                rewrite_report(plan, folder, scale)
            typer.echo(f"{folder}/report.html", err=True)
            return
        end_on_signals()
        gpus = 0
        if jobs > 1:  # torch takes seconds to import
            from pointcover.runtime.devices import count_gpus, readers_per_program

            gpus = count_gpus()
            if gpus:
                given.setdefault("machine.readers", readers_per_program(jobs))
        run = StudyRun(plan, scale, given)
        if searches:
            searched = conduct_search(run, Path.cwd(), folder, JobPool(jobs, gpus))
            if searched.scored:
                counts = f"{searched.scored} of {searched.count} trials"
                typer.echo(f"{folder}/report.html: {counts}", err=True)
            if searched.failed:
                raise ValueError(searched.complaint())
            return
        done = conduct(run, Path.cwd(), folder, JobPool(jobs, gpus))
        if done.records:
            typer.echo(
                f"{folder}/report.html: {len(done.records)} of {done.count} experiments", err=True
            )
        if done.failed:
            raise ValueError(done.complaint())
