"""The command line: what one wants of a run that is no stage of the pipeline.

Only typer is imported here, each command imports what it needs: `pointcover --help` does not wait.
"""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from pointcover.map_files import ClassArea
    from pointcover.models.references import NamedModel
    from pointcover.orthophotos import Orthophoto
    from pointcover.streaming import SeamCount

SEAMS_SHOW = 0.01
"""Share of the pixels near seams from which on a user is told."""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


class Device(StrEnum):
    """Where a network runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Doubt(StrEnum):
    """By what a pixel is doubtful."""

    MARGIN = "margin"
    ENTROPY = "entropy"
    DISAGREEMENT = "disagreement"


class Precision(StrEnum):
    """What a network computes in."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


# What several commands take
ModelReference = Annotated[
    str,
    typer.Argument(
        help="A folder with model.pt and model.json, an exported model.onnx, an MLflow run "
        "(runs:/ID) or a registered model (models:/NAME@champion)."
    ),
]
Images = Annotated[list[Path], typer.Argument(help="Orthophotos: GeoTIFF, PNG, JPEG, JPEG 2000.")]
Resample = Annotated[
    bool,
    typer.Option(
        "--resample",
        help="Bring images of another GSD to that of training, and their maps.",
    ),
]


def _check_finite(value: float | None) -> float | None:
    """Refuse numbers that are none, which typer's own bounds let pass."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"got {value}, wanted a number")
    return value


GsdM = Annotated[
    float | None,
    typer.Option(
        min=0.0001,
        max=100_000,
        callback=_check_finite,
        help="GSD of images that do not tell it, in metres.",
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        help="Which bands of the images the model's are, such as 3,2,1. By default as in training."
    ),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        help="Which values of the images are black and white, such as 0,2047. By "
        "default as in training."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Windows at a time.")]
DeviceChoice = Annotated[Device, typer.Option(help="Where the network runs.")]
PrecisionChoice = Annotated[
    Precision, typer.Option(help="What it computes in; auto is bf16 where that is fast.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


def _print_version(wanted: bool) -> None:
    """Print the version and end, where `--version` was given."""
    if wanted:
        from pointcover import __version__

        typer.echo(f"pointcover {__version__}")
        raise typer.Exit


@app.callback()
def describe(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
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
    force: Force = False,
) -> None:
    """Write the clicks of this run as points for QGIS: class, split, orthophoto and tile."""
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover points"):
        from tqdm import tqdm

        from pointcover.tiles import read_index, read_tile_set
        from pointcover.vectors.writing import write_points

        _check_outputs(out, ".qml", force=force)
        classes = read_tile_set(tiles / "tiles.json").classes
        index = read_index(sparse / "index.csv")
        progress = tqdm(index, desc="collecting", unit="tile", leave=False, disable=None)
        layers = write_points(out, progress, sparse / "clicks", classes, limit=limit)
        counts = ", ".join(f"{count} in layer {name!r}" for name, count in layers.items())
        typer.echo(f"{out}: {counts}", err=True)


@app.command()
def study(
    plan: Annotated[Path, typer.Argument(help="The study file, such as studies/c_linking.yaml.")],
    scale: Annotated[
        Literal["full", "small"],
        typer.Option(help="full, or small: what the file's `small` makes of it, in minutes."),
    ] = "full",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "-S",
            help="KEY=VALUE, a setting of all experiments in place of the file's, "
            "such as source=/data/potsdam. May be said more than once.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments to run side by side.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Where results and report go.", show_default="reports/NAME")
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing: write the report anew.")
    ] = False,
) -> None:
    """Run the experiments of a study that are not known yet, and report what labels bought."""
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover study"):
        from pointcover.processes import end_on_signals
        from pointcover.study.conducting import conduct, rewrite_report
        from pointcover.study.plan import parse_setting

        folder = out or Path("reports") / (plan.stem + ("-small" if scale == "small" else ""))
        if report_only:
            rewrite_report(plan, folder, scale)
            typer.echo(f"{folder}/report.html", err=True)
            return
        end_on_signals()
        said = dict(parse_setting(text) for text in settings or ())
        gpus = 0
        if jobs > 1:  # torch takes seconds to import
            from pointcover.devices import count_gpus, share_of_cores

            gpus = count_gpus()
            if gpus:
                said.setdefault("machine.readers", share_of_cores(jobs))
        done = conduct(
            plan, Path.cwd(), folder, scale=scale, settings=said, at_once=jobs, gpus=gpus
        )
        typer.echo(
            f"{folder}/report.html: {len(done.records)} of {done.count} experiments", err=True
        )
        if done.failed:
            raise ValueError(done.complaint())


@app.command()
def sync() -> None:
    """Give MLflow the DVC experiments that came wholly from the cache: they ran no stage."""
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover sync"):
        from pointcover.syncing import sync as record_missing

        recorded, unreadable = record_missing(Path.cwd())
        typer.echo(
            f"{len(recorded)} recorded: {', '.join(recorded) or 'nothing was missing'}", err=True
        )
        if unreadable:
            reasons = "\n".join(f"  - {name}: {reason}" for name, reason in unreadable.items())
            raise ValueError(f"{len(unreadable)} experiments could not be recorded:\n{reasons}")


@app.command()
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
            callback=_check_finite,
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
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover predict"):
        from tqdm import tqdm

        from pointcover.devices import be_deterministic, make_fabric
        from pointcover.mapping import Mapper, MapSettings
        from pointcover.mean_field import MeanField
        from pointcover.mlflow_store import project_root
        from pointcover.models.references import load_models
        from pointcover.orthophotos import parse_reading
        from pointcover.priors import Priors, parse_shares
        from pointcover.streaming import LayerChoice
        from pointcover.windows import usual_window_px

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
        _tell_engines(models)
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
        tasks = mapper.prepare(_without_maps(images), out, replace=force)
        _tell_remarks([task.orthophoto for task in tasks])
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


@app.command()
def export(
    model: ModelReference,
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    deepness: Annotated[
        bool,
        typer.Option(
            "--deepness",
            help="Declare the height and width of a training tile, without "
            "which the QGIS plugin Deepness opens no model; otherwise any multiples of 32 "
            "px. pointcover gives it images of any size all the same.",
        ),
    ] = False,
    int8: Annotated[
        list[Path] | None,
        typer.Option(
            help="An image like those to be mapped: the network computes in int8, scaled "
            "by what it shows. May be said more than once."
        ),
    ] = None,
    resample: Resample = False,
    gsd_m: GsdM = None,
    bands: Bands = None,
    value_range: ValueRange = None,
    force: Force = False,
) -> None:
    """Write a model as one ONNX file, for QGIS, `pointcover predict`, and all that reads ONNX.

    It is compared with PyTorch, on noise of several sizes (with --int8, on the images), and not
    written where it disagrees.
    """
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover export"):
        from pointcover.mlflow_store import project_root
        from pointcover.models.exporting import export_model, remarks_for_deepness
        from pointcover.models.references import load_model
        from pointcover.orthophotos import open_orthophoto, parse_reading, spread_windows

        if out.suffix != ".onnx":
            raise ValueError(f"--out: got {out}, wanted a name that ends in .onnx")
        _check_outputs(out, force=force)
        named = load_model(model, project_root())
        reading = parse_reading(bands, value_range, gsd_m, resample)
        given = _without_maps(int8 or [])
        orthophotos = [open_orthophoto(path, [named.tile_set], reading) for path in given]
        _tell_remarks(orthophotos)
        windows = spread_windows(orthophotos, named.tile_set.size_px) if orthophotos else []
        found = export_model(named, out, is_for_deepness=deepness, calibration=windows)
        what = f"of the pixels of {len(windows)} windows" if windows else "of the pixels of noise"
        typer.echo(
            f"{out}: {found.same:.2%} {what} get the same class as by PyTorch, probabilities "
            f"differ by {found.largest:.1e} at most ({', '.join(found.engines)})",
            err=True,
        )
        for remark in remarks_for_deepness(named.tile_set) if deepness else ():
            typer.echo(f"note: {remark}", err=True)


@app.command()
def suggest(
    model: ModelReference,
    images: Images,
    out: Annotated[
        Path, typer.Option(help="The GeoPackage to write; its style lies beside it as .qml.")
    ],
    points: Annotated[int, typer.Option(min=1, help="How many clicks, over all images.")] = 100,
    by: Annotated[
        Doubt,
        typer.Option(
            help="What is doubtful: a small margin between the two likeliest classes, a "
            "high entropy, or the disagreement of several models (or views, with --tta)."
        ),
    ] = Doubt.MARGIN,
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
    share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Draw at random among so large a share of what may be "
            "clicked at, the most doubtful one (with --by-class of "
            "each class); 0: the most doubtful points themselves.",
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
    seed: Annotated[int, typer.Option(min=0, help="Draws, and decides between equal doubts.")] = 1,
    resample: Resample = False,
    gsd_m: GsdM = None,
    bands: Bands = None,
    value_range: ValueRange = None,
    batch_size: BatchSize = 4,
    device: DeviceChoice = Device.AUTO,
    precision: PrecisionChoice = Precision.AUTO,
    force: Force = False,
) -> None:
    """Say where the next clicks are worth most: points for QGIS, in which to choose the classes."""
    from pointcover.stage import one_message  # first: says which package is missing

    # isort: split
    with one_message("pointcover suggest"):
        from tqdm import tqdm

        from pointcover.devices import be_deterministic, make_fabric
        from pointcover.mlflow_store import project_root
        from pointcover.models.references import load_models
        from pointcover.orthophotos import parse_reading
        from pointcover.suggesting import Suggester, SuggestSettings
        from pointcover.vectors.reading import read_annotations
        from pointcover.vectors.suggestions import write_suggestions

        _check_outputs(out, ".qml", force=force)
        reading = parse_reading(bands, value_range, gsd_m, resample)
        settings = SuggestSettings(
            by.value, tta, by_class, distance_px, edge_px, share, batch_size, seed
        )
        fabric = make_fabric(device, precision)
        be_deterministic()
        models = load_models([model, *(also or [])], project_root())
        _tell_engines(models)
        suggester = Suggester(fabric, models, settings, reading)
        given = _without_maps(images)
        orthophotos = suggester.prepare(given, out)
        _tell_remarks(orthophotos)
        classes = models[0].tile_set.classes
        before = read_annotations(clicks, classes, clicks_column, ignore=[""]) if clicks else None
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


def _without_maps(images: list[Path]) -> list[Path]:
    """Give images without the maps among them, and say which these are.

    Raises:
        ValueError: all are maps.
    """
    from pointcover.map_files import leave_out_maps

    given, maps = leave_out_maps(images)
    for path in maps:
        typer.echo(f"note: {path} is a map of pointcover, and is left out", err=True)
    return given


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


def _tell_remarks(orthophotos: "list[Orthophoto]") -> None:
    """Say what a user should know of the images."""
    for remark in (remark for orthophoto in orthophotos for remark in orthophoto.remarks):
        typer.echo(f"note: {remark}", err=True)


def _tell_engines(models: "list[NamedModel]") -> None:
    """Say which models something else than torch runs."""
    for each in models:
        if each.engine != "torch":
            typer.echo(f"note: {each.reference} runs on {each.engine}, on the CPU", err=True)


def _show_shares(areas: "list[ClassArea]") -> str:
    """Say in a line what share of a map each class has."""
    from pointcover.map_files import NO_DATA, are_of_nothing

    if are_of_nothing(areas):
        return NO_DATA
    return ", ".join(f"{area.name} {100 * (area.share or 0):.1f} %" for area in areas)


def _check_outputs(out: Path, *beside: str, force: bool) -> None:
    """Check before any work that a file can be written, and may be; its folder is made.

    Args:
        out: the file.
        beside: the endings of what lies beside it under its name.
        force: what is there may be replaced.

    Raises:
        OSError: one of them cannot be written, or is there.
    """
    if not out.name or out.is_dir():
        raise IsADirectoryError(f"{out} is a folder, wanted the name of a file to write")
    paths = [out, *(out.with_suffix(ending) for ending in beside)]
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise FileExistsError(
            f"{' and '.join(str(path) for path in there)} {'exist' if there[1:] else 'exists'}: "
            f"choose another name, or say --force to replace"
        )
    for path in there:
        if path.is_dir():
            raise IsADirectoryError(
                f"{path} is a folder, but a file of this name is to be written: choose another name"
            )
    _check_folder(out)


def _check_folder(out: Path) -> None:
    """Make the folder of a file and check that a file can be written there.

    Raises:
        OSError: it cannot.
    """
    from pointcover.publishing import probe_folder

    try:
        probe_folder(out.parent)
    except OSError as error:
        is_file = isinstance(error, FileExistsError)
        reason = f"{out.parent} is no folder" if is_file else error.strerror
        raise OSError(
            f"{out} cannot be written ({reason}): choose another name, in a folder where "
            f"you may write"
        ) from None
