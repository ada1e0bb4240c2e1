"""`pointcover check-labels`: list point labels that are probably wrong."""

from pathlib import Path
from typing import Annotated

import typer

from pointcover.cli.options import (
    Bands,
    Force,
    Raster,
    ValueRange,
    check_outputs,
    default,
    raster,
    setting,
)
from pointcover.label_errors.settings import LabelErrorSettings

Settings = LabelErrorSettings


def check_labels(
    out: Annotated[
        Path, typer.Option(help="The GeoPackage to write; its style is written as .qml beside.")
    ],
    images: Annotated[
        list[Raster] | None,
        typer.Argument(
            parser=raster,
            help="Images of the points of --clicks. Without any, the point labels and tiles of the "
            "project, after `dvc repro`.",
        ),
    ] = None,
    clicks: Annotated[
        Path | None,
        typer.Option(help="A GeoPackage, GeoJSON or Shapefile of point labels on the images."),
    ] = None,
    clicks_column: Annotated[str, typer.Option(help="Its column of classes.")] = "class",
    params: Annotated[
        Path, typer.Option(help="The settings, whose section `train` says how models are fitted.")
    ] = Path("params.yaml"),
    sparse: Annotated[Path, typer.Option(help="Output folder of the annotate stage.")] = Path(
        "data/sparse"
    ),
    tiles: Annotated[Path, typer.Option(help="Output folder of the tile stage.")] = Path(
        "data/tiles"
    ),
    filter_by: Annotated[str, setting(Settings, "filter_by")] = default(Settings, "filter_by"),
    group_by: Annotated[str, setting(Settings, "group_by")] = default(Settings, "group_by"),
    folds: Annotated[int, setting(Settings, "folds")] = default(Settings, "folds"),
    rounds: Annotated[int, setting(Settings, "rounds")] = default(Settings, "rounds"),
    tile_px: Annotated[int, setting(Settings, "tile_px", min=32)] = default(Settings, "tile_px"),
    downsample: Annotated[int, setting(Settings, "downsample")] = default(Settings, "downsample"),
    bands: Bands = None,
    value_range: ValueRange = None,
    seed: Annotated[int, setting(Settings, "seed")] = default(Settings, "seed"),
    force: Force = False,
) -> None:
    """List point labels that are probably wrong, as points to look at in QGIS.

    Classifiers are fitted without each tile, and say how probable the labels of it are.
    """
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover check-labels"):
        if out.suffix != ".gpkg":
            raise ValueError(f"{out} does not end in .gpkg: points are written as a GeoPackage")
        if bool(images) != bool(clicks):
            raise ValueError(
                "points and images go together: give images and --clicks FILE, or neither for the "
                "labels of the project"
            )
        check_outputs(out, ".qml", force=force)

        from pointcover.config.params import load_params
        from pointcover.image_labels.images import ImageReading, LabelledImages
        from pointcover.label_errors.check import LabelCheck
        from pointcover.label_errors.class_names import read_class_names
        from pointcover.label_errors.cross_validation import classifier_of
        from pointcover.label_errors.doubted_file import write_doubted
        from pointcover.label_errors.workspace import find_workspace_labels
        from pointcover.maps.orthophotos import parse_bands, parse_range
        from pointcover.runtime.devices import be_deterministic
        from pointcover.runtime.progress import Progress
        from pointcover.vectors.read import read_annotations
        from pointcover.vectors.settings import VectorSettings

        settings = Settings(
            filter_by=filter_by,
            group_by=group_by,
            folds=folds,
            rounds=rounds,
            tile_px=tile_px,
            downsample=downsample,
            seed=seed,
        )
        train = load_params(params).train
        chosen = classifier_of(train)
        if chosen.model != train.model:
            typer.echo(
                f"note: labels are checked by {chosen.model}, since {train.model} is fitted too "
                f"slowly for cross-validation",
                err=True,
            )
        if images and clicks:
            columns = VectorSettings(column=clicks_column)
            classes = read_class_names(clicks, columns, "name another column (--clicks-column)")
            annotations = read_annotations(clicks, classes, columns)
            reading = ImageReading(
                settings.tile_px,
                settings.downsample,
                parse_bands(bands) if bands else None,
                parse_range(value_range) if value_range else None,
            )
            found = LabelledImages.open(images, reading).find(annotations, classes)
            source = found.source
            typer.echo(f"note: {clicks}: {found.report.describe()}", err=True)
        else:
            source = find_workspace_labels(tiles, sparse)
        be_deterministic()
        check = LabelCheck.prepare(source, chosen, settings)
        labels = check.read()
        fits = folds * rounds
        with Progress("fitting", fits, "fold") as progress:
            checked = check.judge(labels, progress.update)
        for text in checked.remarks():
            typer.echo(f"note: {text}", err=True)
        for name, given, wrong in checked.counts():
            typer.echo(f"{name}: {wrong} of {given} labels doubted")
        if not checked.doubted:
            typer.echo(f"no label is doubted, so {out} is not written", err=True)
            return
        layers = write_doubted(out, checked)
        shown = ", ".join(f"{count} points in layer {name!r}" for name, count in layers.items())
        typer.echo(f"{out}: {shown}; look at each before changing a label", err=True)
