"""Click on train and val tiles, simulated or for real, grow the clicks, say what they cost."""

from pointcover.config.stage import run_stage  # first: says which package is missing

# isort: split
import logging
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path

from pointcover.annotation.annotate import CLICKS, MASKS, Annotation, annotate_orthophoto
from pointcover.annotation.propagation import PROPAGATORS
from pointcover.annotation.report import AnnotationReport
from pointcover.annotation.samplers import Annotator, tile_budgets
from pointcover.annotation.settings import AnnotateSettings
from pointcover.config.params import Params
from pointcover.figures import (
    draw_panel,
    draw_purity,
    spread_evenly,
    view_clicks,
    view_image,
    view_mask,
)
from pointcover.labels import IGNORE_INDEX, SPLITS, ClassTable
from pointcover.runtime.atomic_files import publish_csv, publish_folder, publish_json
from pointcover.runtime.parallel import map_in_order
from pointcover.text import shorten
from pointcover.tileset.tiles import (
    Tile,
    TileReader,
    TileSet,
    raster_path,
    read_index,
    read_tile_set,
    write_index,
)
from pointcover.vectors.features import Annotations
from pointcover.vectors.rasterize import PlacementReport
from pointcover.vectors.read import read_annotations

TILES = Path("data/tiles")
SPARSE = Path("data/sparse")
METRICS = Path("metrics/annotate.json")
FIGURES = Path("metrics/annotate")
LEFT_OUT = "left_out.csv"
"""Every real annotation of which some or all was left out; the metrics name the first few."""

SHOWN_TILES = 3
logger = logging.getLogger(__name__)


def annotate(params: Params) -> None:
    """Write data/sparse: four kinds of rasters and an index.csv.

    The test split gets real annotations where there are no dense masks to score on, else nothing.
    """
    tile_set = read_tile_set(TILES / "tiles.json")
    tiles = read_index(TILES / "index.csv")
    vectors = read_vectors(params, tile_set.classes, {tile.orthophoto for tile in tiles})
    given = find_given(Path(params.annotations), tiles)
    has_masks = any(sum(tile.pixels) for tile in tiles)
    check_labels(params, has_masks=has_masks, has_real=bool(vectors or given))
    if has_masks:
        tiles = [tile for tile in tiles if tile.split != "test"]
    annotator = make_annotator(params, tile_set.classes)
    labelled = {tile.id: sum(tile.pixels) for tile in tiles}
    propagator = PROPAGATORS[params.annotate.propagator]
    # Published lists put tiles of one orthophoto into several splits: a raster is written once.
    groups: dict[tuple[str, str], list[Tile]] = {}
    for tile in tiles:
        groups.setdefault((tile.split, tile.orthophoto), []).append(tile)
    splits = [split for split in SPLITS if split != "test" or not has_masks]
    reports = {split: AnnotationReport(tile_set.classes.names) for split in splits}
    places = PlacementReport(vectors) if vectors else None
    annotated: list[Tile] = []
    with publish_folder(SPARSE) as out:
        annotation = Annotation(
            tiles=TILES.absolute(),
            out=out.absolute(),
            size_px=tile_set.size_px,
            classes=tile_set.classes,
            annotator=annotator,
            budgets=tile_budgets(annotator, labelled) if annotator else {},
            vectors=vectors,
            all_touched=params.annotate.vectors.all_touched,
            given=given,
            propagator=propagator,
            propagation=propagator.settings(**propagation_of(params.annotate, tile_set.classes)),
            seed=params.seed,
        )
        for part, report, placed in map_in_order(
            partial(annotate_orthophoto, annotation),
            list(groups.values()),
            params.machine,
            label="annotating",
            unit="orthophoto",
        ):
            annotated += part
            reports[part[0].split].include(report)
            if places and placed:
                places.include(placed)
        if places:
            places.check()
            publish_csv(out / LEFT_OUT, ("feature", "reason"), places.faults())
        check_training(annotated)
        write_index(out / "index.csv", annotated, tile_set.classes.names)
    summary = {split: report.summary() for split, report in reports.items()}
    publish_json(METRICS, summary | ({"annotations": places.summary()} if places else {}))
    if places:
        logger.info("%s: %s", params.annotations, places.describe())
    shown = [tile for tile in annotated if tile.split == "train"]
    draw_examples(shown, tile_set, summary["train"], has_masks=has_masks)
    for split, counts in summary.items():
        logger.info(
            "%s: %d clicks in %d tiles, %d grown pixels",
            split,
            counts["clicks"],
            counts["tiles"],
            counts["propagated_pixels"],
        )
    if params.annotate.sampler == "positive":
        logger.warning(
            "only %r was clicked: a network trained on one class calls everything by it. Add "
            "clicks of other classes, or use these for scores of that class alone",
            params.annotate.positive_class,
        )


def read_vectors(
    params: Params, classes: ClassTable, orthophotos: Collection[str]
) -> Annotations | None:
    """Read the file of real annotations; None where `annotations` is a folder."""
    path, settings = Path(params.annotations), params.annotate.vectors
    if path.is_dir():
        return None
    return read_annotations(
        path,
        classes,
        settings.column,
        settings.layer,
        ignore=settings.ignore,
        codes=settings.codes or None,
        orthophotos=orthophotos,
    )


def find_given(folder: Path, tiles: Iterable[Tile]) -> Path | None:
    """Find the click rasters in the folder that `annotations` names; None where it has none.

    Raises:
        ValueError: none of them is of an orthophoto of the dataset.
    """
    clicks = folder / CLICKS
    if not clicks.is_dir():
        return None
    wanted = {raster_path(clicks, tile.split, tile.orthophoto) for tile in tiles}
    if not any(path.exists() for path in wanted):
        there = shorten(sorted(str(path.relative_to(clicks)) for path in clicks.rglob("*.tif")))
        raise ValueError(
            f"annotations: {clicks} has no raster of this dataset's orthophotos: got "
            f"{there or 'none at all'}, wanted such as {min(wanted).relative_to(clicks)}"
        )
    return clicks.absolute()


def check_labels(params: Params, *, has_masks: bool, has_real: bool) -> None:
    """Check that labels can come from somewhere.

    Raises:
        ValueError: nobody clicks, or a simulated annotator has no dense mask to look at.
    """
    sampler = params.annotate.sampler
    if sampler == "none" and not has_real:
        raise ValueError(
            f"annotate.sampler is 'none', and annotations ({params.annotations}) is no file: "
            f"choose a sampler, or set annotations to a GeoPackage, GeoJSON or Shapefile, or to a "
            f"folder with rasters below {CLICKS}/"
        )
    if sampler != "none" and not has_masks:
        raise ValueError(
            f"annotate.sampler is {sampler!r}, but the dataset has no dense masks that a simulated "
            f"annotator could look at: set annotate.sampler to none, and annotations to a "
            f"GeoPackage, GeoJSON or Shapefile"
        )


def check_training(tiles: Iterable[Tile]) -> None:
    """Check that there is something to train on.

    Raises:
        ValueError: no pixel of the train split has a label.
    """
    train = [tile for tile in tiles if tile.split == "train"]
    if not any(sum(tile.pixels) for tile in train):
        regions = shorten(sorted({tile.region for tile in train}))
        raise ValueError(
            f"no label lies on the train split, which has the regions {regions}: annotate there, "
            f"spend more `points`, or say with `split` in the card which regions are for training"
        )


def make_annotator(params: Params, classes: ClassTable) -> Annotator | None:
    """Make the simulated annotator that params.yaml describes; None for sampler `none`.

    Raises:
        ValueError: `positive_class` is no class of the dataset.
    """
    settings = params.annotate
    if settings.sampler == "none":
        return None
    return Annotator(
        sampler=settings.sampler,
        unit=settings.unit,
        points=params.points,
        classes=len(classes),
        boundary_px=settings.boundary_px,
        scribble_px=settings.scribble_px,
        positive_class=class_id_of(settings.positive_class, classes, "positive_class"),
        position_noise_px=settings.position_noise_px,
        label_noise_rate=settings.label_noise_rate,
    )


def propagation_of(settings: AnnotateSettings, classes: ClassTable) -> dict[str, object]:
    """Return the settings of the propagator that is chosen, classes by their ids.

    Raises:
        ValueError: a radius is given for a class that the dataset has not.
    """
    chosen = getattr(settings, settings.propagator, None)
    values: dict[str, object] = chosen.model_dump() if chosen else {}
    if settings.propagator == "nearest":
        values["class_radius_px"] = {
            class_id_of(name, classes, "nearest.class_radius_px"): radius_px
            for name, radius_px in settings.nearest.class_radius_px.items()
        }
    return values


def class_id_of(name: str | None, classes: ClassTable, key: str) -> int | None:
    """Find a class by its name; None stays None."""
    if name is None:
        return None
    if name not in classes.names:
        raise ValueError(
            f"annotate.{key}: got {name!r}, wanted a class of the dataset: "
            f"{', '.join(classes.names)}"
        )
    return classes.names.index(name)


def draw_examples(
    tiles: list[Tile], tile_set: TileSet, labels: dict[str, object], *, has_masks: bool
) -> None:
    """Draw what the annotator saw, clicked and got for a few tiles, and how right it is."""
    classes, size_px = tile_set.classes, tile_set.size_px
    images = TileReader(TILES / "images", size_px, fill=0)
    dense = {"dense mask": TileReader(TILES / "masks", size_px, IGNORE_INDEX)} if has_masks else {}
    kinds = dense | {
        "clicks": TileReader(SPARSE / CLICKS, size_px, IGNORE_INDEX),
        "sparse mask": TileReader(SPARSE / MASKS, size_px, IGNORE_INDEX),
    }
    with publish_folder(FIGURES) as out:
        draw_purity(out / "purity.png", labels, classes)
        for tile in spread_evenly(tiles, SHOWN_TILES):
            views = [("image", view_image(images.read(tile)))]
            for name, reader in kinds.items():
                view = view_clicks if name == "clicks" else view_mask
                views.append((name, view(reader.read(tile)[0], classes)))
            draw_panel(out / f"{tile.id}.png", tile.id, views, classes)


if __name__ == "__main__":
    run_stage(annotate)
