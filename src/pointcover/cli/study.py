"""`pointcover study`: run the experiments of a study and report them."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def study(
    plan: Annotated[Path, typer.Argument(help="The study file, such as studies/c_linking.yaml.")],
    scale: Annotated[
        Literal["full", "small"],
        typer.Option(help="full, or small: the settings of the file's `small`, in minutes."),
    ] = "full",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "-S",
            help="KEY=VALUE, a setting of all experiments in place of the file's, "
            "such as source=/data/potsdam. May be repeated.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments to run in parallel.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Where results and report go.", show_default="reports/NAME")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing: write the report again.")
    ] = False,
) -> None:
    """Run the experiments of a study that have no results yet, and write the report."""
    from pointcover.runtime.errors import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover study"):
        from pointcover.runtime.signals import end_on_signals
        from pointcover.study.conducting import StudyChoice, conduct, rewrite_report
        from pointcover.study.plan import parse_setting
        from pointcover.study.running import JobPool

        folder = out or Path("reports") / (plan.stem + ("-small" if scale == "small" else ""))
        if report_only:
            rewrite_report(plan, folder, scale)
            typer.echo(f"{folder}/report.html", err=True)
            return
        end_on_signals()
        given = dict(parse_setting(text) for text in settings or ())
        gpus = 0
        if jobs > 1:  # torch takes seconds to import
            from pointcover.runtime.devices import count_gpus, share_of_cores

            gpus = count_gpus()
            if gpus:
                given.setdefault("machine.readers", share_of_cores(jobs))
        choice = StudyChoice(plan, scale, given)
        done = conduct(choice, Path.cwd(), folder, JobPool(jobs, gpus))
        typer.echo(
            f"{folder}/report.html: {len(done.records)} of {done.count} experiments", err=True
        )
        if done.failed:
            raise ValueError(done.complaint())
