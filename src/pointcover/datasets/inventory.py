"""The inventory of a dataset: its card, its orthophotos and masks, and checksums of `source`."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from pointcover.datasets.card import DatasetCard, Pair, find_pairs
from pointcover.raster.raster_io import RasterReader
from pointcover.runtime.atomic_files import own_file, publish_json, read_json, sha256
from pointcover.runtime.progress import show_progress
from pointcover.text import shorten

_HERE, _SOURCE = "dataset", "source"


@dataclass(frozen=True)
class Inventory:
    """A dataset on disk. `folder` is where the paths of `pairs` begin."""

    card: DatasetCard
    folder: Path
    pairs: tuple[Pair, ...]


def write_inventory(
    path: Path, card: DatasetCard, folder: Path, *, here: Path, source: Path
) -> list[Pair]:
    """Pair the files of a dataset, and write the inventory with the card.

    Files in `source` are hashed, so that dataset.json changes with them. Those in `here` are not:
    they lie beside it, where DVC hashes them.

    Args:
        path: the dataset.json to write.
        card: the dataset's card.
        folder: the dataset's folder, in `here` or in `source`. Only the relative path is written,
            so that dataset.json does not depend on the machine.
        here: the folder that dataset.json is published in.
        source: the folder `source` of params.yaml.

    Raises:
        ValueError: files or tile lists are missing, or files unpaired, or files lie behind a link
            to a folder, where DVC would not notice changes.
    """
    pairs = find_pairs(card, folder)
    # A changed tile list must change dataset.json: else DVC would not run the stages again.
    lists = {split: folder / rule for split, rule in card.split.items() if isinstance(rule, str)}
    missing = [str(path) for path in lists.values() if not path.is_file()]
    if missing:
        raise ValueError(
            f"the card's `split` names tile lists that do not exist: {', '.join(missing)}. Copy "
            f"them there, or correct `split`"
        )
    base, name = (here, _HERE) if folder.is_relative_to(here) else (source, _SOURCE)
    _check_links(folder, pairs, base)
    entries = [
        asdict(pair)
        | (_digest_files(folder, pair) if name == _SOURCE else {})
        | _digest_beside(folder, pair)
        for pair in show_progress(pairs, "hashing", "pair")
    ]
    publish_json(
        path,
        {
            "base": name,
            "folder": folder.relative_to(base).as_posix(),
            "card": card.model_dump(mode="json"),
            "tile_lists_sha256": {split: sha256(path) for split, path in lists.items()},
            "orthophotos": entries,
        },
    )
    return pairs


def _digest_files(folder: Path, pair: Pair) -> dict[str, str]:
    """Return digests of the image and the mask."""
    files = {"image_sha256": pair.image, "mask_sha256": pair.mask}
    return {key: sha256(folder / name) for key, name in files.items() if name}


def _digest_beside(folder: Path, pair: Pair) -> dict[str, str]:
    """Return digests of what files beside the image and the mask add to them, such as masks."""
    found = {}
    for key, name in (("image", pair.image), ("mask", pair.mask)):
        if name is None:
            continue
        with closing(RasterReader(folder / name)) as reader:
            try:
                digest = reader.digest_beside()
            except (
                ValueError,
                OSError,
            ):  # reported where pixels are read
                digest = None
        if digest:
            found[f"{key}_beside_sha256"] = digest
    return found


def _check_links(folder: Path, pairs: Iterable[Pair], base: Path) -> None:
    """Check that no folder between `base` and the files is a link.

    (DVC 3.67 follows links to files, and a dependency that is a link itself, but no others.)
    """
    files = [path for pair in pairs for path in (pair.image, pair.mask) if path]
    folders = {parent for path in files for parent in (folder / path).parents}
    links = sorted(
        place
        for place in folders
        if place != base and place.is_relative_to(base) and place.is_symlink()
    )
    if links:
        raise ValueError(
            f"{links[0]} is a link to a folder, and DVC would not notice changes of its files: "
            f"make links of the files instead (`cp -rs {links[0].resolve()}/. FOLDER`), or point "
            f"`source` at a folder that holds them"
        )


def read_inventory(path: Path, source: Path) -> Inventory:
    """Read dataset.json; `source` is the folder of params.yaml.

    Raises:
        FileNotFoundError: the stage that writes it did not run.
        ValueError: it is damaged, or files beside images or masks, such as world files, are not
            those of the inventory.
    """
    with own_file(path):
        values = read_json(path)
        base = source if values["base"] == _SOURCE else path.parent
        keys = ("name", "region", "image", "mask")
        entries = values["orthophotos"]
        inventory = Inventory(
            card=DatasetCard.model_validate(values["card"]),
            folder=base / values["folder"],
            pairs=tuple(Pair(**{key: entry[key] for key in keys}) for entry in entries),
        )
    changed = [
        str(inventory.folder / pair.image)
        for pair, entry in zip(inventory.pairs, entries, strict=True)
        if (inventory.folder / pair.image).is_file()
        and _digest_beside(inventory.folder, pair)
        != {key: entry[key] for key in entry if key.endswith("_beside_sha256")}
    ]
    if changed:
        raise ValueError(
            f"the files beside {shorten(changed, 5)} or its mask (world file, .aux.xml, .msk) are "
            f"not those that {path} lists: put them back, or run `dvc repro --force download`"
        )
    return inventory
