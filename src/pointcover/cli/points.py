"""`pointcover points`: write point labels as vector files."""

from pathlib import Path
from typing import Annotated

import typer

from pointcover.cli.options import Force, check_outputs


def points(
    out: Annotated[
        Path, typer.Argument(help="The GeoPackage to write; its style is written as .qml beside.")
    ],
    sparse: Annotated[Path, typer.Option(help="Output folder of the annotate stage.")] = Path(
        "data/sparse"
    ),
    tiles: Annotated[Path, typer.Option(help="Output folder of the tile stage.")] = Path(
        "data/tiles"
    ),
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum number of points to write.")
    ] = 1_000_000,
    force: Force = False,
) -> None:
    """Write the point labels as points for QGIS, with class, split, orthophoto and tile."""
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover points"):
        from pointcover.runtime.progress import show_progress
        from pointcover.tileset.tiles import read_index, read_tile_set
        from pointcover.vectors.write import write_points

        check_outputs(out, ".qml", force=force)
        classes = read_tile_set(tiles / "tiles.json").classes
        index = read_index(sparse / "index.csv")
        progress = show_progress(index, "collecting", "tile")
        layers = write_points(out, progress, sparse / "clicks", classes, limit=limit)
        counts = ", ".join(f"{count} in layer {name!r}" for name, count in layers.items())
        typer.echo(f"{out}: {counts}", err=True)
