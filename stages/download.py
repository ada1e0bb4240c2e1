"""Find, fetch or draw a dataset, and say in data/dataset what is there."""

from pointcover.config.stage import run_stage  # first: says which package is missing

# isort: split
import logging
from pathlib import Path

from pointcover.config.params import Params
from pointcover.datasets.acquire import acquire, draw_dataset
from pointcover.datasets.card import DatasetCard, load_card
from pointcover.datasets.infer_card import find_folder, format_card, infer_card
from pointcover.datasets.inventory import write_inventory
from pointcover.runtime.atomic_files import publish_folder, publish_text
from pointcover.text import shorten

OWN_CARDS = Path("sources")
DATASET = Path("data/dataset")
logger = logging.getLogger(__name__)


def download(params: Params) -> None:
    """Write data/dataset: dataset.json, and the files themselves where `source` has them not."""
    source = Path(params.source)
    without_card = find_folder(params.dataset, source)
    card = infer_card(without_card) if without_card else load_card(params.dataset, OWN_CARDS)
    with publish_folder(DATASET) as out:
        if card.drawn:
            drawn = params.synthetic
            folder = out / "files"
            draw_dataset(card, folder, drawn.orthophotos, drawn.size_px, drawn.seed)
        elif without_card:
            folder = without_card
            publish_text(out / "card.yaml", format_card(card))
        else:
            folder = acquire(card, Path(params.dataset).stem, source, out / "files")
        pairs = write_inventory(out / "dataset.json", card, folder, here=out, source=source)
    if card.leave_out:
        logger.info("left out, as the card says: %s", ", ".join(card.leave_out))
    if without_card:
        say_what_was_inferred(card)
    masks = "with masks" if card.masks else "without masks"
    logger.info("%s: %d orthophotos %s", params.dataset, len(pairs), masks)


def say_what_was_inferred(card: DatasetCard) -> None:
    """Log the classes and splits of a folder without a card, and how to name them."""
    logger.info(
        "no card: the masks hold %d classes (%s: %s)%s. To name them, copy %s to %s/NAME.yaml, "
        "edit it, and set dataset=%s/NAME.yaml",
        len(card.classes),
        card.mask_values,
        shorten(entry.name for entry in card.classes),
        f" and {shorten(map(str, card.ignore))} as unlabelled" if card.ignore else "",
        DATASET / "card.yaml",
        OWN_CARDS,
        OWN_CARDS,
    )
    if card.split["test"] == ("val/*",):
        logger.info(
            "no test folder: val is scored as the test split, and the last %d images of train are "
            "the validation split",
            len(card.region_lists()["val"]),
        )


if __name__ == "__main__":
    run_stage(download)
