"""`pointcover sample`: draw points by which a map's accuracy and areas can be estimated."""

from pathlib import Path
from typing import Annotated

import typer

from pointcover.assessment.settings import SampleSettings
from pointcover.cli.options import (
    Force,
    Raster,
    check_finite,
    check_outputs,
    default,
    raster,
    setting,
)

Settings = SampleSettings

Maps = Annotated[
    list[Raster],
    typer.Argument(
        parser=raster,
        help="Maps of the same classes: the _classes.tif of `pointcover predict`; or addresses of "
        "such, https://… or s3://….",
    ),
]
Names = Annotated[
    str | None,
    typer.Option(
        help="What ids 0, 1, … of the maps are called, where they do not say it: field,forest."
    ),
]


def sample(
    maps: Maps,
    out: Annotated[
        Path, typer.Option(help="The GeoPackage to write; its style lies beside it as .qml.")
    ],
    points: Annotated[int | None, typer.Option(min=1, help="How many points.")] = None,
    half_width: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            max=0.5,
            callback=check_finite,
            help="As many points as give an interval (95 %) of the overall accuracy of so large a "
            "half-width, such as 0.03.",
        ),
    ] = None,
    area_half_width: Annotated[
        str | None,
        typer.Option(
            help="As many points as give an interval of one class's area of so large a half-width, "
            "such as forest=5ha or forest=10% (of its area in the map)."
        ),
    ] = None,
    strata: Annotated[
        Path | None,
        typer.Option(
            help="Strata that are not the classes of the maps: a raster of ids, or polygons with a "
            "column `stratum`."
        ),
    ] = None,
    allocation: Annotated[str, setting(Settings, "allocation")] = default(Settings, "allocation"),
    minimum: Annotated[int, setting(Settings, "minimum")] = default(Settings, "minimum"),
    block_px: Annotated[int, setting(Settings, "block_px")] = default(Settings, "block_px"),
    expected_accuracy: Annotated[
        float, setting(Settings, "expected_accuracy", callback=check_finite)
    ] = default(Settings, "expected_accuracy"),
    seed: Annotated[int, setting(Settings, "seed")] = default(Settings, "seed"),
    names: Names = None,
    force: Force = False,
) -> None:
    """Draw a probability sample of maps: points to be labelled blind, for `pointcover assess`."""
    from pointcover.runtime.errors import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover sample"):
        from pointcover.assessment.sample import Size
        from pointcover.assessment.tasks import SampleTask

        check_outputs(out, ".qml", force=force)
        settings = Settings(
            allocation=allocation,
            minimum=minimum,
            block_px=block_px,
            expected_accuracy=expected_accuracy,
            seed=seed,
        )
        size = Size(points, half_width, area_half_width)
        said = names.split(",") if names else None
        design, layers = SampleTask(maps, settings, size, said, strata).write(out)
        for text in design.assumed:
            typer.echo(f"note: {text}", err=True)
        counts = ", ".join(f"{count} points in layer {name!r}" for name, count in layers.items())
        sizes = ", ".join(f"{one.points} {one.name}" for one in design.strata)
        typer.echo(f"{out}: {counts} ({sizes}); label them all, then `pointcover assess`", err=True)
