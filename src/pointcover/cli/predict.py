"""`pointcover predict`: map whole orthophotos."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pointcover.maps.map_files import ClassArea
    from pointcover.maps.mapper import MapTask
    from pointcover.prediction.sliding_window import SeamCount
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
    default,
    open_models,
    print_remarks,
    setting,
    without_maps,
)
from pointcover.maps.settings import MapSettings
from pointcover.prediction.settings import (
    DeviceSettings,
    LayerSettings,
    MeanFieldSettings,
    PriorSettings,
)

SEAMS_SHOW = 0.01
"""A note is printed if more than this fraction of the pixels near seams differ."""


def predict(
    model: ModelReference,
    images: Images,
    out: Annotated[Path, typer.Option(help="The folder for the maps.")],
    also: Also = None,
    tta: Annotated[bool, setting(MapSettings, "average_views", "--tta")] = False,
    crf: Annotated[int, setting(MeanFieldSettings, "iterations")] = default(
        MeanFieldSettings, "iterations"
    ),
    priors: Annotated[
        str | None,
        typer.Option(
            help="Class priors: the fraction of the area that each class covers, such as "
            "field=0.6,forest=0.4, if it differs from that of the training labels."
        ),
    ] = None,
    prior_strength: Annotated[float, setting(PriorSettings, "strength")] = default(
        PriorSettings, "strength"
    ),
    probabilities: Annotated[
        bool, setting(LayerSettings, "probabilities", "--probabilities")
    ] = False,
    entropy: Annotated[bool, setting(LayerSettings, "entropy", "--entropy")] = False,
    polygons: Annotated[bool, setting(MapSettings, "polygons", "--polygons")] = False,
    min_area_m2: Annotated[
        float | None, setting(MapSettings, "least_m2", min=0, max=1e12, callback=check_finite)
    ] = None,
    resample: Resample = False,
    gsd_m: GsdM = None,
    bands: Bands = None,
    value_range: ValueRange = None,
    window_px: Annotated[int | None, setting(MapSettings, "window_px")] = None,
    overlap: Annotated[float, setting(MapSettings, "overlap")] = default(MapSettings, "overlap"),
    blend: Annotated[bool, setting(MapSettings, "blend", "--blend")] = False,
    batch_size: Annotated[int, setting(MapSettings, "batch_size")] = default(
        MapSettings, "batch_size"
    ),
    device: Device = default(DeviceSettings, "device"),
    precision: Precision = default(DeviceSettings, "precision"),
    force: Force = False,
) -> None:
    """Map whole orthophotos: write classes, confidence, areas and a preview of each to OUT.

    An interrupted run resumes when it is started again.
    """
    from pointcover.runtime.atomic_files import removing_empty_folder
    from pointcover.runtime.errors import one_message  # first: reports missing packages

    # isort: split
    with one_message("pointcover predict"), removing_empty_folder(out):
        check_inputs([model, *(also or [])], images)

        from pointcover.maps.map_files import can_draw
        from pointcover.maps.orthophotos import parse_reading
        from pointcover.prediction.priors import parse_priors
        from pointcover.runtime.progress import BAR, Progress

        reading = parse_reading(bands, value_range, gsd_m, resample)
        if min_area_m2 is not None and not polygons:
            raise ValueError(
                f"--min-area-m2: got {min_area_m2:g} without --polygons, to which it applies: add "
                f"--polygons, or omit it"
            )
        if priors is None and prior_strength != 1:
            raise ValueError(
                f"--prior-strength: got {prior_strength:g} without --priors: add --priors, or omit "
                f"it"
            )
        class_priors = None
        if priors is not None:
            class_priors = PriorSettings(fractions=parse_priors(priors), strength=prior_strength)
        opened = open_models([model, *(also or [])], device, precision)
        settings = opened.settings(
            window_px=window_px,
            overlap=overlap,
            blend=blend,
            average_views=tta,
            crf=MeanFieldSettings(iterations=crf) if crf else None,
            priors=class_priors,
            layers=LayerSettings(entropy=entropy, probabilities=probabilities),
            polygons=polygons,
            least_m2=min_area_m2,
            batch_size=batch_size,
        )
        mapper = opened.mapper(settings, reading)
        tasks = mapper.prepare(without_maps(images), out, replace=force)
        print_remarks([task.orthophoto for task in tasks])
        if not can_draw():
            typer.echo(
                "note: without matplotlib no previews are drawn: `pip install "
                "'pointcover[preview]'` draws them",
                err=True,
            )
        todo = [task for task in tasks if not task.is_done]
        for task in tasks:
            if task.is_done:
                typer.echo(f"{task.path('_classes.tif')} exists already", err=True)
        total = float(sum(task.megapixels for task in todo))
        with Progress("mapping", total, "megapixel", bar_format=BAR) as bar:

            def progress(megapixels: float, was_done: bool) -> None:
                """Count work; that of an earlier attempt does not count for the speed."""
                bar.update(megapixels, was_done=was_done)

            for task in todo:
                result = mapper.make(task, progress)
                bar.clear()
                typer.echo(
                    f"{task.path('_classes.tif')}: {_show_fractions(task, result.areas)}", err=True
                )
                _print_seams(result.seams, settings.window_px)


def _print_seams(seams: "SeamCount", window_px: int) -> None:
    """Print a note if the seams between windows are visible in a map."""
    if seams.unlike > SEAMS_SHOW * seams.pixels:
        typer.echo(
            f"note: near seams between windows, {seams.unlike / seams.pixels:.1%} of the pixels "
            f"have another class in the one window than in the other, so windows are visible in "
            f"the map: use --blend, or --window-px {2 * window_px}; encoders without "
            f"squeeze-and-excitation are less affected",
            err=True,
        )


def _show_fractions(task: "MapTask", areas: "list[ClassArea]") -> str:
    """Return a line with the fraction of a map that each class covers, and of what has no data."""
    from pointcover.maps.map_files import NO_DATA, are_of_nothing, fraction_without_data

    if are_of_nothing(areas):
        return NO_DATA
    shown = ", ".join(f"{area.name} {100 * (area.fraction or 0):.1f} %" for area in areas)
    empty = fraction_without_data(areas, task.orthophoto.grid)
    return shown + (f"; {100 * empty:.1f} % of the image has no data" if empty else "")
