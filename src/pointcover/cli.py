"""The command line: what one wants of a run that is no stage of the pipeline.

Only typer is imported here, each command imports what it needs: `pointcover --help` does not wait.
"""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def describe() -> None:
    """Land-cover maps from a handful of labelled points."""


@app.command()
def points(
    out: Annotated[
        Path, typer.Argument(help="The GeoPackage to write; its style lies beside it as .qml.")
    ],
    sparse: Annotated[Path, typer.Option(help="What the annotate stage wrote.")] = Path(
        "data/sparse"
    ),
    tiles: Annotated[Path, typer.Option(help="What the tile stage wrote.")] = Path("data/tiles"),
    limit: Annotated[int, typer.Option(min=1, help="Most points to write.")] = 1_000_000,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write the clicks of this run as points for QGIS: class, split, orthophoto and tile."""
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover points"):
        from tqdm import tqdm

        from pointcover.tiles import read_index, read_tile_set
        from pointcover.vectors.writing import write_points

        there = [path for path in (out, out.with_suffix(".qml")) if path.exists()]
        if there and not force:
            raise FileExistsError(
                f"{' and '.join(str(path) for path in there)} exists: choose another name, or say "
                f"--force to replace it"
            )
        classes = read_tile_set(tiles / "tiles.json").classes
        index = read_index(sparse / "index.csv")
        progress = tqdm(index, desc="collecting", unit="tile", leave=False, disable=None)
        layers = write_points(out, progress, sparse / "clicks", classes, limit=limit)
        counts = ", ".join(f"{count} in layer {name!r}" for name, count in layers.items())
        typer.echo(f"{out}: {counts}", err=True)
