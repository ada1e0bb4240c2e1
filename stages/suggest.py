"""Choose the next clicks on train tiles by the model, and answer them from the dense masks."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pointcover.config.stage import run_stage

if TYPE_CHECKING:
    from pointcover.config.params import Params

TILES = Path("data/tiles")
CLICKS = Path("data/sparse/clicks")
MODELS = Path("models")
NEXT = Path("data/next")


def suggest(acquisition: str, params: "Params") -> None:
    """Write data/next/ACQUISITION: rasters of all clicks, and a table of the new ones.

    Raises:
        ValueError: the train tiles have no dense masks.
    """
    from pointcover.active.simulation import SimulatedRound
    from pointcover.runtime.atomic_files import publish_folder

    simulated = SimulatedRound(TILES, CLICKS, params.suggest, params.seed)
    count = simulated.count_queries(params.annotate.unit)
    with publish_folder(NEXT / acquisition) as out:
        simulated.run(acquisition, MODELS, count, out)


if __name__ == "__main__":
    run_stage(partial(suggest, sys.argv[1]))
