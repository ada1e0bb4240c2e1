"""`pointcover ui`: open the project's runs in MLflow."""

from contextlib import closing
from typing import Annotated

import typer


def ui(
    port: Annotated[
        int,
        typer.Option(
            min=1024, max=65000, help="The first port to try; the next free one is taken."
        ),
    ] = 5000,
) -> None:
    """Start MLflow on this machine, and print the address of the table of runs.

    It has no login, so it listens on this machine alone. Where MLFLOW_TRACKING_URI names a server,
    nothing is started, and the address there is printed. Ctrl-C ends it.
    """
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover ui"):
        from pointcover.runtime.signals import end_on_signals
        from pointcover.tracking.mlflow_server import HOST, MlflowServer, find_port
        from pointcover.tracking.store import is_server, project_root, tracking_uri
        from pointcover.tracking.ui import find_address

        root = project_root()
        if is_server(tracking_uri(root)):
            typer.echo(find_address(root, ""))
            return
        found = find_port(port)
        address = find_address(root, f"http://{HOST}:{found}")
        end_on_signals()
        typer.echo("starting MLflow …", err=True)
        with closing(MlflowServer(root, found)) as server:
            server.start()
            typer.echo(address)
            typer.echo("Ctrl-C ends it", err=True)
            server.wait()
