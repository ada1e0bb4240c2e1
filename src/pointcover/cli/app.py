"""The program `pointcover`, with one function and one module for each command."""

from typing import Annotated

import typer

from pointcover.cli.assess import assess
from pointcover.cli.change import change
from pointcover.cli.check_labels import check_labels
from pointcover.cli.evaluate import evaluate
from pointcover.cli.export import export
from pointcover.cli.init import init, upgrade
from pointcover.cli.label import label
from pointcover.cli.points import points
from pointcover.cli.predict import predict
from pointcover.cli.recipe import recipe
from pointcover.cli.report import report
from pointcover.cli.sample import sample
from pointcover.cli.study import study
from pointcover.cli.suggest import suggest
from pointcover.cli.sync import sync
from pointcover.cli.ui import ui

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    """Print the version and exit, if `--version` is given."""
    if wanted:
        from pointcover import __version__

        typer.echo(f"pointcover {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Make land-cover maps from few labelled points."""


COMMANDS = (
    *(init, upgrade, label, recipe, report, points, study, sync, ui, predict, export, suggest),
    *(evaluate, sample, assess, change, check_labels),
)
for command in COMMANDS:
    app.command()(command)
