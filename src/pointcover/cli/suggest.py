"""`pointcover suggest`: write the points that are most useful to label next."""

from pathlib import Path
from typing import Annotated

import typer

from pointcover.active.settings import ImageQuerySettings
from pointcover.cli.options import (
    Also,
    Bands,
    Device,
    Force,
    GsdM,
    Images,
    ModelReference,
    Precision,
    Resample,
    ValueRange,
    check_finite,
    check_inputs,
    check_outputs,
    default,
    open_models,
    print_remarks,
    setting,
    without_maps,
)
from pointcover.prediction.settings import DeviceSettings

Settings = ImageQuerySettings


def suggest(
    model: ModelReference,
    images: Images,
    out: Annotated[
        Path, typer.Option(help="The GeoPackage to write; its style is written as .qml beside.")
    ],
    points: Annotated[int, setting(Settings, "points")] = default(Settings, "points"),
    acquisition: Annotated[str, setting(Settings, "acquisition")] = default(
        Settings, "acquisition"
    ),
    also: Also = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Predict eight rotated and flipped views of each window.")
    ] = False,
    by_class: Annotated[bool, setting(Settings, "by_class", "--by-class")] = default(
        Settings, "by_class"
    ),
    distance_px: Annotated[
        float, setting(Settings, "distance_px", callback=check_finite)
    ] = default(Settings, "distance_px"),
    edge_px: Annotated[int, setting(Settings, "edge_px")] = default(Settings, "edge_px"),
    top_fraction: Annotated[float, setting(Settings, "top_fraction")] = default(
        Settings, "top_fraction"
    ),
    clicks: Annotated[
        Path | None,
        typer.Option(
            help="A GeoPackage, GeoJSON or Shapefile of existing annotations, to which "
            "suggestions keep the same distance as to each other."
        ),
    ] = None,
    clicks_column: Annotated[
        str,
        typer.Option(help="Its column of classes; features without a class are ignored."),
    ] = "class",
    seed: Annotated[int, setting(Settings, "seed")] = default(Settings, "seed"),
    resample: Resample = False,
    gsd_m: GsdM = None,
    bands: Bands = None,
    value_range: ValueRange = None,
    batch_size: Annotated[int, setting(Settings, "batch_size")] = default(Settings, "batch_size"),
    device: Device = default(DeviceSettings, "device"),
    precision: Precision = default(DeviceSettings, "precision"),
    force: Force = False,
) -> None:
    """Suggest which points to label next: points for QGIS, where an annotator adds the class."""
    from pointcover.runtime.atomic_files import removing_empty_folder
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover suggest"), removing_empty_folder(out.parent):
        check_outputs(out, ".qml", force=force)
        check_inputs([model, *(also or [])], images)

        from pointcover.maps.orthophotos import parse_reading
        from pointcover.runtime.progress import Progress

        reading = parse_reading(bands, value_range, gsd_m, resample)
        settings = ImageQuerySettings(
            acquisition=acquisition,
            points=points,
            views="d4" if tta else "one",
            by_class=by_class,
            distance_px=distance_px,
            edge_px=edge_px,
            top_fraction=top_fraction,
            batch_size=batch_size,
            seed=seed,
        )
        opened = open_models([model, *(also or [])], device, precision)
        suggester = opened.suggester(settings)
        orthophotos = suggester.prepare(without_maps(images), out, reading)
        print_remarks(orthophotos)
        before = suggester.read_clicks(clicks, clicks_column) if clicks else None
        total = sum(orthophoto.grid.height for orthophoto in orthophotos)
        with Progress("predicting", total, "row") as bar:
            found = suggester.suggest(orthophotos, bar.update, before)
        layers = suggester.write(out, orthophotos, found)
        counts = ", ".join(f"{count} in layer {name!r}" for name, count in layers.items())
        fewer = ""
        if len(found) < points:
            fewer = f"; fewer than {points}, since they are {distance_px:g} px from each other"
            fewer += " and from the existing annotations" if clicks else ""
            fewer += f" and {edge_px} px from other classes" if edge_px else ""
        typer.echo(f"{out}: {counts}{fewer}", err=True)
