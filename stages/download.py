"""Find, download or synthesise a dataset, and list its files in data/dataset."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pointcover.config.stage import run_stage

if TYPE_CHECKING:
    from pointcover.config.params import Params

OWN_CARDS = Path("sources")
DATASET = Path("data/dataset")
logger = logging.getLogger(__name__)


def download(params: "Params") -> None:
    """Write data/dataset: dataset.json, and the files themselves where `source` lacks them."""
    from pointcover.datasets.acquire import acquire, draw_dataset
    from pointcover.datasets.infer_card import find_folder, format_card, infer_card, log_inferred
    from pointcover.datasets.inventory import write_inventory
    from pointcover.datasets.load_card import load_card
    from pointcover.runtime.atomic_files import publish_folder, publish_text

    source = Path(params.source)
    without_card = find_folder(params.dataset, source)
    card = infer_card(without_card) if without_card else load_card(params.dataset, OWN_CARDS)
    with publish_folder(DATASET) as out:
        if card.drawn:
            folder = out / "files"
            draw_dataset(card, folder, params.synthetic)
        elif without_card:
            folder = without_card
            publish_text(out / "card.yaml", format_card(card))
        else:
            folder = acquire(card, Path(params.dataset).stem, source, out / "files")
        pairs = write_inventory(out / "dataset.json", card, folder, here=out, source=source)
    if card.leave_out:
        logger.info("left out, as the card says: %s", ", ".join(card.leave_out))
    if without_card:
        log_inferred(card, DATASET / "card.yaml", OWN_CARDS)
    masks = "with masks" if card.masks else "without masks"
    logger.info("%s: %d orthophotos %s", params.dataset, len(pairs), masks)


if __name__ == "__main__":
    run_stage(download)
