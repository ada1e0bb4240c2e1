"""`pointcover suggest`: write the points that are worth most to label next."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pointcover.cli.options import (
    Bands,
    BatchSize,
    Device,
    DeviceChoice,
    Force,
    GsdM,
    Images,
    ModelReference,
    Precision,
    PrecisionChoice,
    Resample,
    ValueRange,
    check_outputs,
    tell_engines,
    tell_remarks,
    without_maps,
)


class Uncertainty(StrEnum):
    """By what a pixel is uncertain."""

    MARGIN = "margin"
    ENTROPY = "entropy"
    DISAGREEMENT = "disagreement"


def suggest(
    model: ModelReference,
    images: Images,
    out: Annotated[
        Path, typer.Option(help="The GeoPackage to write; its style lies beside it as .qml.")
    ],
    points: Annotated[int, typer.Option(min=1, help="How many clicks, over all images.")] = 100,
    acquisition: Annotated[
        Uncertainty,
        typer.Option(
            help="What is uncertain: a small margin between the two likeliest classes, a "
            "high entropy, or the disagreement of several models (or views, with --tta)."
        ),
    ] = Uncertainty.MARGIN,
    also: Annotated[
        list[str] | None,
        typer.Option(help="A further model, for disagreement. May be said more than once."),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Take eight turned and flipped views of each window.")
    ] = False,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="As many of each class that the model sees.")
    ] = False,
    distance_px: Annotated[
        float, typer.Option(min=1, help="No two clicks are nearer to each other.")
    ] = 32,
    edge_px: Annotated[
        int,
        typer.Option(
            min=0,
            max=32,
            help="No click is so near to where the model sees another "
            "class, where it is hard to tell for you, too.",
        ),
    ] = 0,
    top_fraction: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Draw at random among so large a fraction of what may be "
            "clicked at, the most uncertain one (with --by-class of "
            "each class); 0: the most uncertain points themselves.",
        ),
    ] = 0,
    clicks: Annotated[
        Path | None,
        typer.Option(
            help="A GeoPackage, GeoJSON or Shapefile of what is annotated already: no "
            "click is nearer to it than to another one."
        ),
    ] = None,
    clicks_column: Annotated[
        str, typer.Option(help="Its column of classes; where that is empty, nothing is annotated.")
    ] = "class",
    seed: Annotated[
        int, typer.Option(min=0, help="Draws, and decides between equal uncertainties.")
    ] = 1,
    resample: Resample = False,
    gsd_m: GsdM = None,
    bands: Bands = None,
    value_range: ValueRange = None,
    batch_size: BatchSize = 4,
    device: DeviceChoice = Device.AUTO,
    precision: PrecisionChoice = Precision.AUTO,
    force: Force = False,
) -> None:
    """Suggest where the next clicks are worth most: points for QGIS, to be given a class there."""
    from pointcover.runtime.errors import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover suggest"):
        from tqdm import tqdm

        from pointcover.active.suggest import Suggester, SuggestSettings
        from pointcover.active.suggestion_file import write_suggestions
        from pointcover.maps.orthophotos import parse_reading
        from pointcover.models.load import load_models
        from pointcover.runtime.devices import be_deterministic, make_fabric
        from pointcover.tracking.store import project_root
        from pointcover.vectors.read import read_annotations
        from pointcover.vectors.settings import VectorSettings

        check_outputs(out, ".qml", force=force)
        reading = parse_reading(bands, value_range, gsd_m, resample)
        settings = SuggestSettings(
            acquisition.value, tta, by_class, distance_px, edge_px, top_fraction, batch_size, seed
        )
        fabric = make_fabric(device, precision)
        be_deterministic()
        models = load_models([model, *(also or [])], project_root())
        tell_engines(models)
        suggester = Suggester(fabric, models, settings, reading)
        given = without_maps(images)
        orthophotos = suggester.prepare(given, out)
        tell_remarks(orthophotos)
        classes = models[0].tile_set.classes
        columns = VectorSettings(column=clicks_column)
        before = read_annotations(clicks, classes, columns) if clicks else None
        total = sum(orthophoto.grid.height for orthophoto in orthophotos)
        with tqdm(desc="looking", total=total, unit="row", leave=False, disable=None) as bar:
            found = suggester.suggest(orthophotos, points, bar.update, before)
        grids = [orthophoto.grid for orthophoto in orthophotos]
        stems = [path.stem for path in given]
        layers = write_suggestions(out, found, grids, stems, classes)
        counts = ", ".join(f"{count} in layer {name!r}" for name, count in layers.items())
        fewer = ""
        if len(found) < points:
            fewer = f"; of {points} no more were found {distance_px:g} px from each other"
            fewer += " and from the clicks" if clicks else ""
            fewer += f" and {edge_px} px from other classes" if edge_px else ""
        typer.echo(f"{out}: {counts}{fewer}", err=True)
