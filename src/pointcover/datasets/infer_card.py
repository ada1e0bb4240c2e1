"""Infer the card of a dataset from its files.

The layout is `train/images`, `train/masks`, `val/images`, `val/masks` and optionally `test/images`
and `test/masks`. The paths of an image and its mask differ only in folder and extension.
"""

import colorsys
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from pointcover.datasets.card import FOLDER, DatasetCard, embedded_cards
from pointcover.labels import IGNORE_INDEX, Colour, format_colour
from pointcover.raster.raster_io import RasterReader, Window
from pointcover.runtime.progress import show_progress
from pointcover.text import shorten

logger = logging.getLogger(__name__)

ENDINGS: Final = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2")
MAX_VALUES: Final = 64
"""Masks with more values or colours than this are assumed to be compressed with loss."""

VAL_FRACTION: Final = 0.2
STRIP_PX: Final = 1024
GOLDEN_RATIO: Final = 0.618034
LAYOUT: Final = (
    "wanted train/images, train/masks, val/images and val/masks in it (and test/images, "
    "test/masks, where there is a test split)"
)


@dataclass
class _Levels:
    """The values and colours that occur in the masks."""

    values: set[int] = field(default_factory=set)
    """Values of masks whose bands are equal; palette indexes of masks with a palette."""
    colours: set[Colour] = field(default_factory=set)
    nodata: set[int] = field(default_factory=set)
    palettes: list[dict[int, Colour]] = field(default_factory=list)
    """Colours by value, for each mask that has a palette."""
    plain: list[Path] = field(default_factory=list)
    """Masks of one band without a palette."""
    coloured: list[Path] = field(default_factory=list)
    """Masks whose bands differ."""


def find_folder(dataset: str, source: Path) -> Path | None:
    """Find the folder that `dataset` names, if it names no card.

    Args:
        dataset: FOLDER, which is `source` itself, or the path of a folder in it.
        source: the folder `source` of params.yaml, which DVC tracks.

    Returns:
        The folder, as a path below `source`; None where `dataset` is no folder.

    Raises:
        ValueError: the folder lies outside of `source`, where DVC would not notice changes.
    """
    if dataset == FOLDER:
        return source
    folder = Path(dataset)
    if dataset in embedded_cards() or not folder.is_dir():
        return None
    # Resolved, since DVC does not follow links to folders below one that it tracks.
    if not folder.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"dataset: {dataset} is a folder outside of source ({source}), and DVC tracks only "
            f"source: set source to it too (-S dataset={dataset} -S source={dataset})"
        )
    return source / folder.resolve().relative_to(source.resolve())


def infer_card(folder: Path) -> DatasetCard:
    """Infer the card of a folder: its files, the classes in its masks, its splits.

    Results are usually reported on a published val split. So without a test folder val becomes the
    test split, and the last fifth of the train images, by name, becomes val. (Not every fifth
    image: images with consecutive numbers are often neighbours on the ground.)

    Args:
        folder: with the layout that this module describes.

    Raises:
        ValueError: it has another layout, or its masks have no classes.
        FileNotFoundError: there is no such folder.
    """
    if not folder.exists():
        raise FileNotFoundError(f"source: {folder} does not exist, {LAYOUT}")
    lacking = [
        name
        for split in ("train", "val")
        for name in (f"{split}/images", f"{split}/masks")
        if not (folder / name).is_dir()
    ]
    if lacking:
        raise ValueError(
            f"{folder} is to be read without a card, but lacks {', '.join(lacking)}: {LAYOUT}"
        )
    images, masks = _files(folder, "images"), _files(folder, "masks")
    bands = RasterReader(images[0]).info().bands
    classes, ignore, mask_values = _classes(_read_levels(masks))
    return DatasetCard.model_validate(
        {
            "title": "A folder without a card",
            "images": f"*/images/*{images[0].suffix}",
            "masks": f"*/masks/*{masks[0].suffix}",
            "bands": [1, 2, 3] if bands >= 3 else [1],
            "mask_values": mask_values,
            "classes": classes,
            "ignore": ignore,
            "split": _split(folder, images),
        }
    )


def format_card(card: DatasetCard) -> str:
    """Format an inferred card as YAML, in which a user can name the classes."""

    def quote(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)  # which is YAML too

    classes = [
        f"  - {{name: {quote(entry.name)}, colour: {quote(entry.colour)}"
        f"{'' if entry.value is None else f', value: {entry.value}'}}}"
        for entry in card.classes
    ]
    split = [f"  {name}: {quote(list(rule))}" for name, rule in card.region_lists().items()]
    lines = [
        "# Inferred from the files. Copy it to sources/NAME.yaml, name the classes, and set",
        "# dataset=sources/NAME.yaml with the same source.",
        *(f"{key}: {quote(getattr(card, key))}" for key in ("title", "images", "masks")),
        f"bands: {quote(list(card.bands))}",
        f"mask_values: {card.mask_values}",
        *("classes:", *classes),
        f"ignore: {quote(list(card.ignore))}",
        *("split:", *split),
    ]
    return "\n".join(lines) + "\n"


def log_inferred(card: DatasetCard, path: Path, own_cards: Path) -> None:
    """Log the classes and splits of an inferred card, and how to name the classes.

    Args:
        card: the inferred one.
        path: where it was written to.
        own_cards: the folder of users' own cards.
    """
    logger.info(
        "no card: the masks hold %d classes (%s: %s)%s. To name them, copy %s to %s/NAME.yaml, "
        "edit it, and set dataset=%s/NAME.yaml",
        len(card.classes),
        card.mask_values,
        shorten(entry.name for entry in card.classes),
        f" and {shorten(map(str, card.ignore))} as unlabelled" if card.ignore else "",
        path,
        own_cards,
        own_cards,
    )
    if card.split["test"] == ("val/*",):
        logger.info(
            "no test folder: val is scored as the test split, and the last %d images of train are "
            "the validation split",
            len(card.region_lists()["val"]),
        )


def _files(folder: Path, kind: str) -> list[Path]:
    """Return images or masks of all splits, sorted; they must have one extension."""
    paths = [
        path
        for path in sorted(folder.glob(f"*/{kind}/*"))
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    ]
    if not paths:
        raise ValueError(f"no raster lies in {folder}/*/{kind}: wanted {', '.join(ENDINGS)}")
    endings = Counter(path.suffix for path in paths)
    if len(endings) > 1:
        counts = ", ".join(f"{count} {ending}" for ending, count in endings.most_common())
        raise ValueError(
            f"{folder}/*/{kind} holds files of several endings ({counts}), wanted one: convert "
            f"them, or move away what is no data"
        )
    return paths


def _split(folder: Path, images: Sequence[Path]) -> dict[str, list[str]]:
    if (folder / "test" / "images").is_dir():
        return {"val": ["val/*"], "test": ["test/*"]}
    names = [path.relative_to(folder).as_posix() for path in images]
    train = [name for name in names if name.startswith("train/")]
    if len(train) < 2:
        raise ValueError(
            f"{folder}/train/images holds {len(train)} image(s), wanted at least two: without a "
            f"test folder val is for testing, and a part of train for validation"
        )
    return {"val": train[-max(1, round(VAL_FRACTION * len(train))) :], "test": ["val/*"]}


def _read_levels(masks: Sequence[Path]) -> _Levels:
    levels = _Levels()
    for path in show_progress(masks, "reading masks", "mask"):
        reader = RasterReader(path)
        info = reader.info()
        if info.bands not in (1, 3):
            raise ValueError(
                f"{path} has {info.bands} bands, wanted one of numbers, a palette, or three of "
                f"colours: remove the others, such as alpha"
            )
        if info.dtype not in ("uint8", "uint16") or (info.bands == 3 and info.dtype != "uint8"):
            raise ValueError(
                f"{path} holds {info.bands} band(s) of {info.dtype}, wanted one of uint8 or "
                f"uint16, or three of uint8"
            )
        reader.check_unscaled()
        if reader.dataset.nodata is not None:
            levels.nodata.add(int(reader.dataset.nodata))
        values, colours = _levels_of(reader)
        if values is None:
            levels.coloured.append(path)
        else:
            levels.values |= values
        levels.colours |= colours
        if info.has_palette and values is not None:
            table = reader.dataset.colormap(1)
            levels.palettes.append({value: tuple(table[value][:3]) for value in values})
            levels.colours |= set(levels.palettes[-1].values())
        elif info.bands == 1:
            levels.plain.append(path)
        reader.close()
        if max(len(levels.values), len(levels.colours)) > MAX_VALUES:
            raise ValueError(
                f"the masks up to {path} hold more than {MAX_VALUES} values: they are no classes, "
                f"or were saved with loss (as JPEG). Correct them, or write a card with "
                f"`binarise_at`"
            )
    return levels


def _levels_of(reader: RasterReader) -> tuple[set[int] | None, set[Colour]]:
    """Return a mask's values (None if its bands differ), and its colours if it has three bands."""
    info = reader.info()
    values: set[int] | None = set()
    colours: set[Colour] = set()
    for top in range(0, info.height, STRIP_PX):
        window = Window(0, top, info.width, min(STRIP_PX, info.height - top))
        strip, shown = reader.read(window), ~reader.read_hidden(window)
        if not shown.any():
            continue
        strip[:, ~shown] = strip[:, shown][:, :1]
        if info.bands == 3:
            key = (strip[0].astype(np.uint32) << 16) | (strip[1].astype(np.uint32) << 8) | strip[2]
            flat = key.ravel()
            # Masks have long runs of one colour: sorting only the first pixel of each is faster.
            found = np.unique(flat[np.flatnonzero(np.diff(flat, prepend=flat[0] ^ 1))])
            colours |= {(int(k) >> 16, int(k) >> 8 & 255, int(k) & 255) for k in found}
            if values is not None and (strip == strip[0]).all():
                values |= {int(k) & 255 for k in found}
            else:
                values = None
        elif values is not None:
            values |= {int(value) for value in np.flatnonzero(np.bincount(strip.ravel()))}
    return values, colours


def _classes(levels: _Levels) -> tuple[list[dict[str, Any]], list[int | str], str]:
    """Return the classes, unlabelled values and `mask_values` of a card."""
    if levels.coloured or _palettes_differ(levels.palettes):
        if levels.plain:
            other = levels.coloured[0] if levels.coloured else "another with a palette"
            raise ValueError(
                f"{levels.plain[0]} is a mask of numbers, but {other} is one of colours: convert "
                f"them to one of the two"
            )
        colours = sorted(levels.colours)
        classes: list[dict[str, Any]] = [
            {"name": f"colour_{format_colour(colour)[1:]}", "colour": format_colour(colour)}
            for colour in colours
        ]
        return _at_least_two(classes), [], "colours"
    values = sorted(levels.values - levels.nodata)
    ignore: list[int | str] = [*sorted(levels.values & levels.nodata)]
    # In black and white masks 255 is a class; with more numbers it usually means "unlabelled".
    if IGNORE_INDEX in values and len(values) > 2:
        values.remove(IGNORE_INDEX)
        ignore.append(IGNORE_INDEX)
    shown = _shown(values, levels.palettes)
    return (
        _at_least_two(
            [
                {"name": f"class_{value}", "colour": format_colour(shown[value]), "value": value}
                for value in values
            ]
        ),
        ignore,
        "ids",
    )


def _at_least_two(classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(classes) < 2:
        names = shorten(entry["name"] for entry in classes)
        raise ValueError(f"the masks hold one class ({names}), wanted at least two")
    return classes


def _palettes_differ(palettes: Iterable[Mapping[int, Colour]]) -> bool:
    """Return whether one value has two colours: then the colours are the classes."""
    shown: dict[int, Colour] = {}
    return any(
        shown.setdefault(value, colour) != colour
        for palette in palettes
        for value, colour in palette.items()
    )


def _shown(values: Sequence[int], palettes: Iterable[Mapping[int, Colour]]) -> dict[int, Colour]:
    """Choose a colour for each value: those of the palettes if they all differ."""
    known = {value: colour for palette in palettes for value, colour in palette.items()}
    if set(values) <= known.keys() and len({known[value] for value in values}) == len(values):
        return {value: known[value] for value in values}
    colours = {}
    for place, value in enumerate(values):
        # Hues at steps of the golden ratio are distinct for any number of classes.
        hue, brightness = place * GOLDEN_RATIO % 1, 0.9 - 0.3 * (place % 2)
        rgb = colorsys.hsv_to_rgb(hue, 0.65, brightness)
        colours[value] = (round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2]))
    return colours
