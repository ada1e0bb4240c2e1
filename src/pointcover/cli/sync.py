"""`pointcover sync`: record in MLflow the experiments that came from DVC's cache."""

from pathlib import Path

import typer


def sync() -> None:
    """Record in MLflow the DVC experiments whose stages all came from the cache."""
    from pointcover.runtime.errors import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover sync"):
        from pointcover.study.sync import sync as record_missing

        recorded, unreadable = record_missing(Path.cwd())
        typer.echo(
            f"{len(recorded)} recorded: {', '.join(recorded) or 'nothing was missing'}", err=True
        )
        if unreadable:
            reasons = "\n".join(f"  - {name}: {reason}" for name, reason in unreadable.items())
            raise ValueError(f"{len(unreadable)} experiments could not be recorded:\n{reasons}")
