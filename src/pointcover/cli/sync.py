"""`pointcover sync`: record cached DVC experiments in MLflow."""

from pathlib import Path

import typer


def sync() -> None:
    """Record DVC experiments in MLflow that ran no stage, since all results were in the cache."""
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover sync"):
        from pointcover.study.sync import sync as record_missing

        recorded, unreadable = record_missing(Path.cwd())
        typer.echo(
            f"{len(recorded)} recorded: {', '.join(recorded) or 'none was missing'}", err=True
        )
        if unreadable:
            reasons = "\n".join(f"  - {name}: {reason}" for name, reason in unreadable.items())
            raise ValueError(f"{len(unreadable)} experiments could not be recorded:\n{reasons}")
