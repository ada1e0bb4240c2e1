"""Evaluate a model, or an ensemble with it, on the tiles of a split."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pointcover.evaluation.accumulate import ScoredTiles, Scoring, SplitCounts, count_tiles
from pointcover.evaluation.panels import (
    PanelStyle,
    caption_scored,
    draw_figures,
    draw_panels,
    name_panels,
)
from pointcover.evaluation.settings import EvaluateSettings
from pointcover.evaluation.summary import (
    CONFUSION_HEADER,
    DENSE,
    HELD_OUT,
    confusion_rows,
    oracle_scores,
    protocol_of,
    summarise,
    write_tables,
)
from pointcover.features.encoder_pyramid import use_cache
from pointcover.features.level_cache import LevelCache
from pointcover.figures import spread_evenly
from pointcover.metrics.scores import check_left_out
from pointcover.networks.checkpoint import Member, load_checkpoint, load_ensemble
from pointcover.prediction.mean_field import MeanField
from pointcover.prediction.predict import Correct, Predicted, Predictor, predict
from pointcover.prediction.priors import make_correction
from pointcover.runtime.atomic_files import digest_values, publish_csv, publish_folder
from pointcover.runtime.devices import be_deterministic, count_readers, make_fabric
from pointcover.runtime.settings import MachineSettings
from pointcover.tileset.dataset import TileDataset, tile_loader
from pointcover.tileset.tiles import Tile, TileSet, read_index, read_tile_set

BOOTSTRAP_SEED: Final = 0
"""Independent of the experiment's seed, so that all experiments draw the same resamples."""


@dataclass(frozen=True)
class EvaluationFolders:
    """Input folders of an evaluation."""

    tiles: Path
    """Of the tile set, with dense masks if the dataset has them."""
    sparse: Path
    """Of sparse masks and clicks."""
    models: Path
    """Of the model."""


class Evaluator:
    """Scores a model, or an ensemble, on the test split.

    The labels are the dense masks of the test split, or if there are none, its real annotations,
    which are not used in training.
    """

    def __init__(
        self, settings: EvaluateSettings, folders: EvaluationFolders, machine: MachineSettings
    ) -> None:
        """Read models and tiles, and check them against the settings.

        Args:
            settings: of the evaluation.
            folders: of tiles, labels and models.
            machine: reading processes and the cache of features.

        Raises:
            ValueError: the test split has no labels, or the settings do not match the labels or
                models.
        """
        self._settings, self._folders = settings, folders
        model, checkpoint, self.model_sha256 = load_checkpoint(folders.models)
        others = load_ensemble(Path(settings.ensemble), checkpoint.tile_set)
        self.checkpoint, self.other_models = checkpoint, len(others)
        self._size_px = check_tiles(folders.tiles / "tiles.json", checkpoint.tile_set).size_px
        self.classes = checkpoint.tile_set.classes
        check_left_out(settings.leave_out, self.classes.names)
        self.tiles, self.is_dense = tiles_to_score(settings, folders)
        self._oracle_tiles = tiles_of_oracle(folders) if settings.oracle else []
        members = [Member(folders.models, model, checkpoint), *others]
        cache = LevelCache.of(machine)
        for member in members:
            use_cache(member.segmenter, cache)
        self._predictor = Predictor(
            [member.segmenter for member in members],
            average_views=settings.views == "d4",
            corrections=corrections_of(settings, members),
            refine=MeanField(settings.crf) if settings.crf.iterations else None,
        )
        self._fabric = make_fabric(settings.device, settings.precision)
        self._readers = count_readers(machine.readers, self._fabric)
        be_deterministic()

    @property
    def protocol(self) -> dict[str, Any]:
        """The kind of labels, and the pixels and classes that are left out."""
        return protocol_of(self.is_dense, self._settings.erode_px, self._settings.leave_out)

    @property
    def split_digest(self) -> str:
        """Digest of the test tiles and of the protocol."""
        return digest_values([[asdict(tile) for tile in self.tiles], self.protocol])

    def count_splits(self) -> list[SplitCounts]:
        """Count over the test split and, with `oracle`, over the validation split."""
        parts = [self.tiles, *([self._oracle_tiles] if self._oracle_tiles else [])]
        return [
            count_tiles(
                self._predict(self._scored(tiles)),
                tiles,
                len(self.classes),
                with_boundaries=self.is_dense and not self._settings.erode_px,
            )
            for tiles in parts
        ]

    def summarise(self, splits: Sequence[SplitCounts]) -> dict[str, Any]:
        """Return the contents of metrics/evaluate.json."""
        settings, names = self._settings, self.classes.names
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        summary = summarise(splits[0], names, settings.leave_out, generator)
        result = self.protocol | {"model_count": 1 + self.other_models} | summary
        for counts in splits[1:]:
            result |= {"oracle_val": oracle_scores(counts, names, settings.leave_out)}
        if settings.priors:
            result |= {"priors": settings.priors, "prior_strength": settings.prior_strength}
        if settings.crf.iterations:
            result |= {"crf": settings.crf.model_dump()}
        return result

    def write_tables(self, folder: Path, splits: Sequence[SplitCounts]) -> None:
        """Write the tables of regions, classes, reliability and tiles."""
        with publish_folder(folder) as out:
            write_tables(out, splits, self.classes.names, self._settings.leave_out)

    def write_confusion(self, path: Path, test: SplitCounts) -> None:
        """Write the confusion matrix of the test split."""
        rows = confusion_rows(test.confusions.sum(axis=0), self.classes.names)
        publish_csv(path, CONFUSION_HEADER, rows)

    def draw(self, folder: Path, test: SplitCounts) -> None:
        """Draw figures of the test split, and panels of test and train tiles.

        The tiles are predicted again, since `count_splits` does not store predictions.
        """
        settings, names = self._settings, self.classes.names
        style = PanelStyle(self.classes, DENSE if self.is_dense else HELD_OUT, self.is_dense)
        with publish_folder(folder) as out:
            draw_figures(out, test, names, settings.leave_out)
            fixed = spread_evenly(range(len(self.tiles)), settings.panels)
            worst = test.worst(settings.worst, without=fixed)
            for kind, places in (("fixed", fixed), ("worst", worst)):
                captions = caption_scored(kind, test, places, names, settings.leave_out)
                scored = self._scored([self.tiles[place] for place in places])
                draw_panels(out, captions, self._predict(scored), style)
            self._draw_train_tiles(out)

    def _draw_train_tiles(self, out: Path) -> None:
        """Draw labelled tiles of the train split, evenly spaced, with their labels."""
        if not self._settings.train_panels:
            return
        tiles, sparse = self._folders.tiles, self._folders.sparse
        labelled = [
            tile
            for tile in read_index(sparse / "index.csv")
            if tile.split == "train" and any(tile.pixels)
        ]
        chosen = spread_evenly(labelled, self._settings.train_panels)
        is_dense = any(sum(tile.pixels) for tile in read_index(tiles / "index.csv"))
        size_px = self._size_px
        learned = TileDataset(chosen, tiles / "images", sparse / "masks", size_px)
        dense = TileDataset(chosen, tiles / "images", tiles / "masks", size_px)
        titles = [f"{tile.id} ({tile.region}), of the train split" for tile in chosen]
        names = name_panels("train", [tile.id for tile in chosen])
        draw_panels(
            out,
            list(zip(names, titles, strict=True)),
            self._predict(dense if is_dense else learned),
            PanelStyle(self.classes, DENSE, is_dense),
            learned,
        )

    def _predict(self, dataset: TileDataset) -> Iterator[Predicted]:
        loader = tile_loader(dataset, self._settings.batch_size, self._readers)
        return predict(self._fabric, self._predictor, loader)

    def _scored(self, tiles: Sequence[Tile]) -> ScoredTiles:
        folders, names = self._folders, self.classes.names
        return ScoredTiles(
            tiles,
            folders.tiles / "images",
            folders.tiles / "masks" if self.is_dense else folders.sparse / "clicks",
            self._size_px,
            Scoring(
                self._settings.erode_px, [names.index(name) for name in self._settings.leave_out]
            ),
        )


def check_tiles(path: Path, trained_on: TileSet) -> TileSet:
    """Read the tile set to score on, and check that a model can be scored there.

    Args:
        path: of its tiles.json.
        trained_on: the tile set that the model was trained on.

    Raises:
        ValueError: they differ in their classes or in the number of bands.
    """
    tile_set = read_tile_set(path)
    found, wanted = tile_set.classes.names, trained_on.classes.names
    if found != wanted:
        raise ValueError(
            f"{path.parent} has the classes {', '.join(found)}, but the model has "
            f"{', '.join(wanted)}: to score a model of another dataset, map the classes in the "
            f"card (`map_classes`), and run `dvc repro tile`"
        )
    if len(tile_set.bands) != len(trained_on.bands):
        raise ValueError(
            f"{path.parent} has {len(tile_set.bands)} bands, but the model has "
            f"{len(trained_on.bands)}: name as many of the same kind with `bands` in the card, and "
            f"run `dvc repro tile`"
        )
    return tile_set


def tiles_to_score(
    settings: EvaluateSettings, folders: EvaluationFolders
) -> tuple[list[Tile], bool]:
    """Return the tiles of the test split, and whether they are scored on dense masks.

    Raises:
        ValueError: the test split has no labels; or it has only annotations, and the settings need
            dense masks.
    """
    tiles = [tile for tile in read_index(folders.tiles / "index.csv") if tile.split == "test"]
    if any(sum(tile.pixels) for tile in tiles):
        return tiles, True
    tiles = [tile for tile in read_index(folders.sparse / "index.csv") if tile.split == "test"]
    if not any(sum(tile.pixels) for tile in tiles):
        raise ValueError(
            "the test split has neither dense masks nor real annotations to score on: annotate "
            "test orthophotos, too, or correct `split` in the card"
        )
    if settings.erode_px or settings.oracle:
        key = "erode_px" if settings.erode_px else "oracle"
        raise ValueError(
            f"evaluate.{key} is {getattr(settings, key)}, which needs dense masks, and the test "
            f"split has none: set it to {0 if settings.erode_px else 'false'}"
        )
    return tiles, False


def tiles_of_oracle(folders: EvaluationFolders) -> list[Tile]:
    """Return the tiles of the validation split.

    Raises:
        ValueError: these tiles have no dense masks.
    """
    tiles = [tile for tile in read_index(folders.tiles / "index.csv") if tile.split == "val"]
    if not any(sum(tile.pixels) for tile in tiles):
        raise ValueError(
            "evaluate.oracle is true, but the dense masks of the validation split have no labelled "
            "pixel: set it to false"
        )
    return tiles


def corrections_of(settings: EvaluateSettings, members: Sequence[Member]) -> list[Correct]:
    """Return for each model a function that corrects its logits for the given priors.

    Raises:
        ValueError: the priors name other classes than the models have, or the label fractions of a
            model are not known.
    """
    priors = settings.known_priors
    if priors is None:
        return []
    return [
        make_correction(
            priors,
            str(member.folder),
            member.checkpoint.tile_set.classes.names,
            member.checkpoint.label_fractions,
        )
        for member in members
    ]
