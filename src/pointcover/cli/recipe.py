"""`pointcover recipe`: settings that go together, by name."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def recipe(
    name: Annotated[
        str | None, typer.Argument(help="Of a recipe; without it all recipes are listed.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write its settings into params.yaml.")
    ] = False,
) -> None:
    """Show settings that go together: for `dvc exp run $(pointcover recipe best)`."""
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover recipe"):
        from pointcover.config.recipes import RECIPES, write_recipe

        if name is None:
            if write:
                raise ValueError("--write needs the name of a recipe, such as `fast`")
            for known, one in RECIPES.items():
                typer.echo(f"{known}: {one.about}")
            return
        if name not in RECIPES:
            raise ValueError(f"got {name!r}, wanted one of {', '.join(RECIPES)}")
        if write:
            write_recipe(RECIPES[name], Path("params.yaml"))
            typer.echo(f"params.yaml has the settings of {name}: run `dvc repro`", err=True)
        else:
            # `$(…)` splits its output at blanks but reads no quotes; a person's shell needs them.
            join = shlex.join if sys.stdout.isatty() else " ".join
            typer.echo(join(RECIPES[name].options()))
