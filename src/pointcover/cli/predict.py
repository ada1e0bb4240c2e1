"""`pointcover predict`: map whole orthophotos."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pointcover.maps.map_files import ClassArea
    from pointcover.prediction.sliding_window import SeamCount
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
    check_finite,
    tell_engines,
    tell_remarks,
    without_maps,
)

SEAMS_SHOW = 0.01
"""Share of the pixels near seams from which on a user is told."""


def predict(
    model: ModelReference,
    images: Images,
    out: Annotated[Path, typer.Option(help="The folder for the maps.")],
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="A further model; the probabilities of all are averaged. May be said "
            "more than once."
        ),
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average eight turned and flipped views of each window.")
    ] = False,
    crf: Annotated[
        int,
        typer.Option(
            min=0,
            max=50,
            help="Iterations of a conditional random field, in which "
            "neighbours of like colour agree on a class; 5 are usual.",
        ),
    ] = 0,
    priors: Annotated[
        str | None,
        typer.Option(
            help="The share of the land that each class has, such as "
            "field=0.6,forest=0.4: models are corrected that saw others in training."
        ),
    ] = None,
    prior_strength: Annotated[
        float,
        typer.Option(min=0, max=10, help="How far predictions follow --priors; 1 is Bayes' rule."),
    ] = 1,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class, too.")
    ] = False,
    entropy: Annotated[bool, typer.Option("--entropy", help="Write the entropy, too.")] = False,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Write the areas as polygons, too.")
    ] = False,
    min_area_m2: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1e12,
            callback=check_finite,
            help="The smallest polygon; what is "
            "smaller goes to its largest neighbour. By default 50 pixels.",
        ),
    ] = None,
    resample: Resample = False,
    gsd_m: GsdM = None,
    bands: Bands = None,
    value_range: ValueRange = None,
    window_px: Annotated[
        int | None,
        typer.Option(
            help="Height and width of what the network sees at a time. By default that "
            "of a tile in training, but 512 at least."
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Share of a window that it has in common with the next.")
    ] = 0.25,
    blend: Annotated[
        bool,
        typer.Option(
            "--blend",
            help="Average probabilities where windows overlap, instead of keeping their centres.",
        ),
    ] = False,
    batch_size: BatchSize = 4,
    device: DeviceChoice = Device.AUTO,
    precision: PrecisionChoice = Precision.AUTO,
    force: Force = False,
) -> None:
    """Map whole orthophotos: classes, confidence, areas, and a picture, for each into OUT.

    A run that is cut off goes on where it was when it is started again.
    """
    from pointcover.runtime.errors import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover predict"):
        from tqdm import tqdm

        from pointcover.maps.mapper import Mapper, MapSettings
        from pointcover.maps.orthophotos import parse_reading
        from pointcover.models.load import load_models
        from pointcover.prediction.mean_field import MeanField
        from pointcover.prediction.priors import Priors, parse_shares
        from pointcover.prediction.sliding_window import LayerChoice
        from pointcover.prediction.windows import usual_window_px
        from pointcover.runtime.devices import be_deterministic, make_fabric
        from pointcover.tracking.store import project_root

        reading = parse_reading(bands, value_range, gsd_m, resample)
        if min_area_m2 is not None and not polygons:
            raise ValueError(
                f"--min-area-m2: got {min_area_m2:g} without --polygons, whose smallest it says: "
                f"say --polygons, too, or leave it out"
            )
        if priors is None and prior_strength != 1:
            raise ValueError(
                f"--prior-strength: got {prior_strength:g} without --priors: say which, or leave "
                f"it out"
            )
        ground = Priors(parse_shares(priors), prior_strength) if priors is not None else None
        fabric = make_fabric(device, precision)
        be_deterministic()
        models = load_models([model, *(also or [])], project_root())
        tell_engines(models)
        settings = MapSettings(
            window_px=window_px or usual_window_px(models[0].tile_set.size_px),
            overlap=overlap,
            blend=blend,
            average_views=tta,
            crf=MeanField(crf) if crf else None,
            priors=ground,
            layers=LayerChoice(entropy, probabilities),
            polygons=polygons,
            least_m2=min_area_m2,
            batch_size=batch_size,
        )
        mapper = Mapper(fabric, models, settings, reading)
        tasks = mapper.prepare(without_maps(images), out, replace=force)
        tell_remarks([task.orthophoto for task in tasks])
        todo = [task for task in tasks if not task.is_done]
        for task in tasks:
            if task.is_done:
                typer.echo(f"{task.path('_classes.tif')} is there already", err=True)
        with tqdm(
            desc="mapping",
            total=sum(task.megapixels for task in todo),
            unit="MPix",
            leave=False,
            disable=None,
            bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} MPix "
            "[{elapsed}<{remaining}, {rate_noinv_fmt}]",
        ) as bar:

            def progress(megapixels: float, was_done: bool) -> None:
                """Move the bar; what an earlier attempt did says nothing of this one's speed."""
                if was_done and not bar.disable:
                    bar.initial += megapixels
                bar.update(megapixels)

            for task in todo:
                result = mapper.make(task, progress)
                bar.clear()
                typer.echo(f"{task.path('_classes.tif')}: {_show_shares(result.areas)}", err=True)
                _tell_seams(result.seams, settings.window_px)


def _tell_seams(seams: "SeamCount", window_px: int) -> None:
    """Say that windows can be seen in a map, where they can."""
    if seams.unlike > SEAMS_SHOW * seams.pixels:
        typer.echo(
            f"note: left and right of a seam between windows, {seams.unlike / seams.pixels:.1%} of "
            f"the pixels are of another class in the one window than in the other, so windows can "
            f"be seen in the map: say --blend, or --window-px {2 * window_px}; encoders without "
            f"squeeze and excitation feel it less",
            err=True,
        )


def _show_shares(areas: "list[ClassArea]") -> str:
    """Say in a line what share of a map each class has."""
    from pointcover.maps.map_files import NO_DATA, are_of_nothing

    if are_of_nothing(areas):
        return NO_DATA
    return ", ".join(f"{area.name} {100 * (area.share or 0):.1f} %" for area in areas)
