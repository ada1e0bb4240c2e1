"""Simulate the annotator on train and val tiles, grow the clicks, and say what they cost."""

from pointcover.stage import run_stage  # first: says which package is missing

# isort: split
import logging
from pathlib import Path

from joblib import Parallel, delayed
from tqdm import tqdm

from pointcover.annotating import CLICKS, MASKS, Annotation, annotate_orthophoto
from pointcover.annotation_report import AnnotationReport
from pointcover.annotations import Annotator, tile_budgets
from pointcover.figures import (
    draw_panel,
    draw_purity,
    spread_evenly,
    view_clicks,
    view_image,
    view_mask,
)
from pointcover.growing import GROWERS
from pointcover.labels import IGNORE_INDEX, ClassTable
from pointcover.params import AnnotateParams, Params
from pointcover.publishing import publish_folder, publish_json
from pointcover.tiles import Tile, TileReader, TileSet, read_index, read_tile_set, write_index

TILES = Path("data/tiles")
SPARSE = Path("data/sparse")
METRICS = Path("metrics/annotate.json")
FIGURES = Path("metrics/annotate")
SHOWN_TILES = 3
logger = logging.getLogger(__name__)


def annotate(params: Params) -> None:
    """Write data/sparse: four kinds of rasters and an index.csv; the test split gets none."""
    tile_set = read_tile_set(TILES / "tiles.json")
    tiles = [tile for tile in read_index(TILES / "index.csv") if tile.split != "test"]
    annotator = make_annotator(params, tile_set.classes)
    grower = GROWERS[params.annotate.grower]
    # Published lists put tiles of one orthophoto into several splits: a raster is written once.
    groups: dict[tuple[str, str], list[Tile]] = {}
    for tile in tiles:
        groups.setdefault((tile.split, tile.orthophoto), []).append(tile)
    reports = {split: AnnotationReport(tile_set.classes.names) for split in ("train", "val")}
    annotated: list[Tile] = []
    with publish_folder(SPARSE) as out:
        annotation = Annotation(
            tiles=TILES,
            out=out,
            size_px=tile_set.size_px,
            classes=tile_set.classes,
            annotator=annotator,
            budgets=tile_budgets(annotator, {tile.id: sum(tile.pixels) for tile in tiles}),
            grower=grower,
            growth=grower.settings(**growth_of(params.annotate, tile_set.classes)),
            seed=params.seed,
        )
        parts = Parallel(n_jobs=params.annotate.workers, return_as="generator")(
            delayed(annotate_orthophoto)(annotation, group) for group in groups.values()
        )
        for part, report in tqdm(
            parts, "annotating", len(groups), unit="orthophoto", leave=False, disable=None
        ):
            annotated += part
            reports[part[0].split].include(report)
        write_index(out / "index.csv", annotated, tile_set.classes.names)
    summary = {split: report.summary() for split, report in reports.items()}
    publish_json(METRICS, summary)
    draw_examples([tile for tile in annotated if tile.split == "train"], tile_set, summary["train"])
    for split, counts in summary.items():
        logger.info(
            "%s: %d clicks in %d tiles, %d grown pixels", split, counts["clicks"],
            counts["tiles"], counts["grown_pixels"],
        )  # fmt: skip
    if params.annotate.sampler == "positive":
        logger.warning(
            "only %r was clicked: a network trained on one class calls everything by it. Add "
            "clicks of other classes, or use these for scores of that class alone",
            params.annotate.positive_class,
        )


def make_annotator(params: Params, classes: ClassTable) -> Annotator:
    """Make the simulated annotator that params.yaml describes.

    Raises:
        ValueError: `positive_class` is no class of the dataset.
    """
    settings = params.annotate
    return Annotator(
        sampler=settings.sampler,
        unit=settings.unit,
        points=params.points,
        classes=len(classes),
        boundary_px=settings.boundary_px,
        scribble_px=settings.scribble_px,
        positive_class=class_id_of(settings.positive_class, classes, "positive_class"),
        jitter_px=settings.jitter_px,
        wrong_share=settings.wrong_share,
    )


def growth_of(settings: AnnotateParams, classes: ClassTable) -> dict[str, object]:
    """Give the settings of the grower that is chosen, classes by their ids.

    Raises:
        ValueError: a radius is given for a class that the dataset has not.
    """
    chosen = getattr(settings, settings.grower, None)
    values: dict[str, object] = chosen.model_dump() if chosen else {}
    if settings.grower == "nearest":
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


def draw_examples(tiles: list[Tile], tile_set: TileSet, labels: dict[str, object]) -> None:
    """Draw what the annotator saw, clicked and got for a few tiles, and how right it is."""
    classes, size_px = tile_set.classes, tile_set.size_px
    images = TileReader(TILES / "images", size_px, fill=0)
    kinds = {
        "dense mask": TileReader(TILES / "masks", size_px, IGNORE_INDEX),
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
