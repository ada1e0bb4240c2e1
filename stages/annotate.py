"""Annotate train and val tiles with clicks, simulated or real, and propagate their labels."""

from pathlib import Path
from typing import TYPE_CHECKING

from pointcover.config.stage import run_stage

if TYPE_CHECKING:
    from pointcover.config.params import Params

TILES = Path("data/tiles")
SPARSE = Path("data/sparse")
METRICS = Path("metrics/annotate.json")
FIGURES = Path("metrics/annotate")


def annotate(params: "Params") -> None:
    """Write data/sparse: rasters of clicks, sparse masks, sources and confidence, and index.csv.

    The test split gets real annotations only if there are no dense masks to score on.
    """
    from pointcover.annotation.annotate import Annotation, annotate_tiles, budgets_of
    from pointcover.annotation.examples import draw_examples
    from pointcover.annotation.inputs import find_inputs
    from pointcover.figures import draw_purity
    from pointcover.runtime.atomic_files import publish_folder, publish_json
    from pointcover.tileset.tiles import read_index, read_tile_set

    tile_set = read_tile_set(TILES / "tiles.json")
    tiles = read_index(TILES / "index.csv")
    inputs = find_inputs(Path(params.annotations), params.annotate, tile_set, tiles, TILES)
    tiles, scored = inputs.to_annotate(tiles), inputs.scored(tiles)
    with publish_folder(SPARSE) as out:
        annotation = Annotation(
            tiles=TILES.absolute(),
            out=out.absolute(),
            tile_set=tile_set,
            settings=params.annotate,
            inputs=inputs,
            budgets=budgets_of(params.annotate, params.points, tiles),
            seed=params.seed,
            scored=scored,
        )
        annotated = annotate_tiles(annotation, tiles, params.machine)
        annotated.write(out)
    publish_json(METRICS, annotated.summary())
    with publish_folder(FIGURES) as out:
        views = {"image": TILES / "images", "dense mask": TILES / "masks"}
        views |= {"clicks": SPARSE / "clicks", "sparse mask": SPARSE / "masks"}
        if not inputs.has_masks:
            del views["dense mask"]
        draw_examples(out, views, tile_set, annotated.tiles)
        if inputs.has_masks:  # to which labels can be compared
            draw_purity(out / "purity.png", annotated.summary()["train"], tile_set.classes)
    annotated.log(params.annotate)


if __name__ == "__main__":
    run_stage(annotate)
