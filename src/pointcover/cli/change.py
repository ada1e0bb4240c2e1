"""`pointcover change`: map what changed from one map to another."""

from pathlib import Path
from typing import Annotated

import typer

from pointcover.cli.options import Force, check_outputs
from pointcover.cli.sample import Names


def change(
    old: Annotated[Path, typer.Argument(help="The earlier map, a _classes.tif.")],
    new: Annotated[Path, typer.Argument(help="The later map of the same land.")],
    out: Annotated[
        Path,
        typer.Option(
            help="The GeoTIFF of from-to classes to write; its style and a table lie beside it as "
            ".qml and .csv."
        ),
    ],
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Bring the later map to the grid of the earlier one."),
    ] = False,
    names: Names = None,
    force: Force = False,
) -> None:
    """Map the from-to classes of two maps, to be sampled and assessed like any map."""
    from pointcover.runtime.errors import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover change"):
        from pointcover.assessment.change import compare_maps, write_change
        from pointcover.assessment.class_maps import open_class_map
        from pointcover.maps.map_files import PIXEL_COUNTS

        if out.suffix != ".tif":
            raise ValueError(f"{out} does not end in .tif: change is written as a GeoTIFF")
        check_outputs(out, ".qml", ".csv", force=force)
        said = names.split(",") if names else None
        before, after = (open_class_map(path, said) for path in (old, new))
        found = compare_maps(before, after, resample=resample)
        write_change(out, before, after, found, resample=resample)
        stays = sum(
            int(count)
            for (a, b), count in zip(found.pairs, found.pixels, strict=True)
            if before.classes.names[a] == after.classes.names[b]
        )
        changed = 1 - stays / int(found.pixels.sum())
        typer.echo(
            f"{out}: {len(found.pairs)} from-to classes, {changed:.1%} of the pixels changed "
            f"({PIXEL_COUNTS})",
            err=True,
        )
