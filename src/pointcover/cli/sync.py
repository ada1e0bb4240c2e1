"""`pointcover sync`: record in MLflow what is not there yet."""

from pathlib import Path

import typer


def sync() -> None:
    """Record in MLflow what a server could not take before, and experiments that ran no stage.

    Runs wait in .pointcover/unlogged where their MLflow server did not answer. DVC experiments run
    no stage where all results were in the cache.
    """
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover sync"):
        from pointcover.study.sync import sync as record_missing
        from pointcover.tracking.runs import log_postponed
        from pointcover.tracking.store import project_root

        logged, waiting = log_postponed(project_root())
        if logged:
            typer.echo(f"{logged} runs that waited for the server are logged", err=True)
        recorded, unreadable = record_missing(Path.cwd())
        typer.echo(
            f"{len(recorded)} recorded: {', '.join(recorded) or 'none was missing'}", err=True
        )
        unreadable = {**waiting, **unreadable}
        if unreadable:
            reasons = "\n".join(f"  - {name}: {reason}" for name, reason in unreadable.items())
            raise ValueError(
                f"{len(unreadable)} runs or experiments could not be recorded:\n{reasons}"
            )
