"""`pointcover label`: label images in the browser, and see the map change."""

from pathlib import Path
from typing import Annotated

import typer

from pointcover.cli.options import Raster, raster

FOLDER = Path("pointcover-labels")


def label(
    images: Annotated[
        list[Raster] | None,
        typer.Argument(
            parser=raster,
            help="Images: GeoTIFF, PNG, JPEG, JPEG 2000, or addresses of cloud-optimised GeoTIFFs "
            "(https://…, s3://…). Without any, those of the project.",
        ),
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option(
            help=f"The folder of classes, points and settings; made if missing. By default "
            f"{FOLDER}, unless the images lie beside it."
        ),
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(
            help="Add the classes of a dataset card to the project: a file, or the name of a card "
            "that pointcover brings."
        ),
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="Name written beside each point. By default the user's.")
    ] = None,
    merge: Annotated[
        list[Path] | None,
        typer.Option(help="Add the points of another person's points.jsonl. May be repeated."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    host: Annotated[
        str | None,
        typer.Option(
            help="Listen to other machines on this address, such as 0.0.0.0; they need the address "
            "with the token that is printed. The connection is not encrypted."
        ),
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(
            help="Label the points of this file of `pointcover sample` blind, one after the other: "
            "no map and no model is shown. The answers are written into it."
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, and open no browser.")
    ] = False,
) -> None:
    """Label images in the browser: each click is kept at once, and the map follows it."""
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover label"):
        from functools import partial

        from pointcover.labelling.access import LOOPBACK, Access
        from pointcover.labelling.point_log import merge_logs
        from pointcover.labelling.project import CACHE, LOG, Project, user_name
        from pointcover.labelling.routes import make_app
        from pointcover.labelling.serve import serve
        from pointcover.labelling.session import Session
        from pointcover.labelling.settings import ClassSettings

        if author is not None and not 0 < len(author.strip()) <= 100:
            raise ValueError(f"--author: got {author!r}, wanted a name of 1 to 100 characters")
        given = images or []
        folder = project or FOLDER
        if project is None and any(path.resolve().parent == Path.cwd() for path in given):
            raise ValueError(
                f"{folder} would lie in the folder of the images, where nothing is written: name "
                f"another one with --project"
            )
        access = Access(host or LOOPBACK, port)

        def say(address: str) -> None:
            typer.echo(f"open {address} (Ctrl+C ends)", err=True)

        if sample is not None:
            if merge or card is not None:
                raise ValueError(
                    "--merge and --card add to a project, and --sample has its own classes and "
                    "points: leave them out"
                )
            from pointcover.labelling.blind import BlindSession
            from pointcover.labelling.blind_routes import make_blind_app

            folder.mkdir(parents=True, exist_ok=True)
            blind = BlindSession(given, sample, author or user_name(), folder / CACHE)
            if blind.missing:
                typer.echo(f"note: {blind.missing} points lie in none of these images", err=True)
            try:
                place = None if no_browser else folder
                serve(partial(make_blind_app, blind), access, folder=place, say=say)
            finally:
                blind.close()
            return
        if merge:
            Project(folder, given, author).close()  # nobody has it open
            own = folder / LOG
            count = merge_logs([own, *merge], own)
            typer.echo(f"{own}: {count} records after merging", err=True)
        opened = Project(folder, given, author)
        try:
            if card is not None:
                from pointcover.datasets.load_card import load_card

                entries = load_card(card, Path(card).parent).classes
                opened.add_classes(
                    [ClassSettings(name=one.name, colour=one.colour.upper()) for one in entries]
                )
            session = Session(opened)
        except BaseException:
            opened.close()
            raise
        for remark in (opened.remark_on_closed_images(), opened.remark_on_changed_images()):
            if remark:
                typer.echo(f"note: {remark}", err=True)
        try:
            session.start()
            serve(
                partial(make_app, session),
                access,
                folder=None if no_browser else folder,
                say=say,
            )
        finally:
            session.close()
