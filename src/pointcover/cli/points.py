"""`pointcover points`: write point labels as vector files."""

from pathlib import Path
from typing import Annotated

import typer

from pointcover.cli.options import Force, check_outputs


def points(
    out: Annotated[
        Path,
        typer.Argument(
            help="The file to write, or LabelMe's folder. The style of a GeoPackage is written as "
            ".qml beside."
        ),
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="geopackage|geojson|csv|coco|label-studio|cvat|labelme",
            help="GeoPackage and GeoJSON are in the CRS of the images, or in pixels where they "
            "have none; the others are in pixels.",
        ),
    ] = "geopackage",
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
    """Write the point labels for QGIS or an annotation tool, with class, split and image."""
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover points"):
        from pointcover.runtime.progress import show_progress
        from pointcover.tileset.source_images import read_source_images
        from pointcover.tileset.tiles import read_index, read_tile_set
        from pointcover.vectors.point_labels import PointLabels
        from pointcover.vectors.write_points import POINT_FORMATS, write_points

        if format_ not in POINT_FORMATS:
            raise ValueError(f"--format: got {format_!r}, wanted one of {', '.join(POINT_FORMATS)}")
        if not POINT_FORMATS[format_].ending and out.exists():
            raise FileExistsError(f"{out} exists: {format_} is written to a new folder, name one")
        check_outputs(out, *POINT_FORMATS[format_].beside, force=force)
        classes = read_tile_set(tiles / "tiles.json").classes
        index = read_index(sparse / "index.csv")
        progress = show_progress(index, "collecting", "tile")
        labels = PointLabels(progress, sparse / "clicks", classes, limit)
        layers = write_points(out, labels, read_source_images(tiles), format_)
        counts = ", ".join(f"{count} in layer {name!r}" for name, count in layers.items())
        typer.echo(f"{out}: {counts}", err=True)
