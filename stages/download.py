"""Find, fetch or draw a dataset, and say in data/dataset what is there."""

from pointcover.stage import run_stage  # first: says which package is missing

# isort: split
import logging
from pathlib import Path

from pointcover.datasets.acquiring import acquire, draw_dataset
from pointcover.datasets.card import load_card
from pointcover.datasets.inventory import write_inventory
from pointcover.params import Params
from pointcover.publishing import publish_folder

OWN_CARDS = Path("sources")
DATASET = Path("data/dataset")


def download(params: Params) -> None:
    """Write data/dataset: dataset.json, and the files themselves where `source` has them not."""
    card = load_card(params.dataset, OWN_CARDS)
    name, source = Path(params.dataset).stem, Path(params.source)
    with publish_folder(DATASET) as out:
        if card.drawn:
            drawn = params.synthetic
            folder = out / "files"
            draw_dataset(card, folder, drawn.orthophotos, drawn.size_px, drawn.seed)
        else:
            folder = acquire(card, name, source, out / "files")
        pairs = write_inventory(out / "dataset.json", card, folder, here=out, source=source)
    logging.getLogger(__name__).info("%s: %d orthophotos with masks", params.dataset, len(pairs))


if __name__ == "__main__":
    run_stage(download)
