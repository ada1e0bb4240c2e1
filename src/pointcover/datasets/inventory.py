"""The inventory of a dataset: its card, its orthophotos and masks, and checksums of `source`."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from pointcover.datasets.card import DatasetCard, Pair, find_pairs
from pointcover.runtime.atomic_files import publish_json, read_json, sha256

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
    entries = [asdict(pair) for pair in pairs]
    if name == _SOURCE:
        for entry in tqdm(entries, desc="hashing", unit="pair", leave=False, disable=None):
            for kind in ("image", "mask"):
                if entry[kind]:
                    entry[f"{kind}_sha256"] = sha256(folder / entry[kind])
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
    """Read dataset.json; `source` is the folder of params.yaml."""
    values = read_json(path)
    base = source if values["base"] == _SOURCE else path.parent
    keys = ("name", "region", "image", "mask")
    return Inventory(
        card=DatasetCard.model_validate(values["card"]),
        folder=base / values["folder"],
        pairs=tuple(Pair(**{key: entry[key] for key in keys}) for entry in values["orthophotos"]),
    )
