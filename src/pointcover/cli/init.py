"""`pointcover init` and `pointcover upgrade`: projects outside the repository of pointcover."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(help="Of the new project; `.` is the current folder.")],
) -> None:
    """Make a project: pipeline, settings, stages, git and DVC, ready for `dvc repro`."""
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover init"):
        from pointcover.project.create import create_project

        left = create_project(folder)
        typer.echo(f"{folder} is ready: `cd {folder}`, then `dvc repro`", err=True)
        if left:
            typer.echo(f"Before experiments, {left}", err=True)


def upgrade() -> None:
    """Renew the project in the current folder after another version was installed."""
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover upgrade"):
        from pointcover import __version__
        from pointcover.project.upgrade import NEW, upgrade_project

        done = upgrade_project(Path())
        typer.echo(f"pointcover {done.before} → {__version__}", err=True)
        for name in done.replaced:
            typer.echo(f"renewed {name}", err=True)
        for name in done.edited:
            typer.echo(
                f"kept {name}, which you edited: take over what is new in {name}{NEW}", err=True
            )
        for key, value in done.added.items():
            typer.echo(f"new setting {key}: {value}", err=True)
        for key, value in done.removed.items():
            typer.echo(f"the setting {key} no longer exists; it was {value}", err=True)
        again = ", ".join(done.stages) or "none"
        typer.echo(f"stages whose code changed, which `dvc repro` runs again: {again}", err=True)
