"""params.yaml as one validated, frozen model, composed of the settings of the packages."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from pointcover.active.settings import SuggestSettings
from pointcover.annotation.settings import AnnotateSettings
from pointcover.datasets.synthetic.settings import SyntheticSettings
from pointcover.evaluation.settings import EvaluateSettings
from pointcover.networks.architectures import GRADIENT_DESCENT, MODELS
from pointcover.runtime.settings import MachineSettings
from pointcover.tiling.settings import TileSettings
from pointcover.training.settings import TrainSettings
from pointcover.validation import Count, Section, Seed, missing_keys, validate
from pointcover.yaml_files import read_yaml


class Params(Section):
    """All of params.yaml."""

    dataset: Annotated[str, Field(min_length=1)] = Field(
        description="A card's name (synthetic, dubai, …), the path of your own card "
        "(sources/mine.yaml), or the folder given in `source`."
    )
    source: Annotated[str, Field(min_length=1)] = Field(
        description="Path of the data: a folder or an archive; absolute if it is outside this "
        "repository."
    )
    annotations: Annotated[str, Field(min_length=1)] = Field(
        description="Real annotations: the folder of a vector file of points, lines and polygons, "
        "of exports of COCO, Label Studio, CVAT, LabelMe or CSV, or of "
        "clicks/SPLIT/ORTHOPHOTO.tif of class ids (data/sparse is one), or a GeoJSON. "
        "`sources` means none."
    )
    points: Count = Field(description="Label budget: number of clicks, in annotate.unit.")
    seed: Seed = Field(
        description="Seed of the clicks, of the initial weights and of the batches; splits have "
        "their own."
    )
    synthetic: SyntheticSettings
    tile: TileSettings
    annotate: AnnotateSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    suggest: SuggestSettings
    machine: MachineSettings

    @model_validator(mode="after")
    def _values_go_together(self) -> "Params":
        if self.annotate.unit == "percent" and self.points > 100:
            raise ValueError(
                f"points is {self.points} with annotate.unit 'percent': wanted at most 100"
            )
        nothing_propagates = (
            self.annotate.propagator == "none" and not self.train.self_training.rounds
        )
        if self.train.propagated_loss_fraction is not None and nothing_propagates:
            raise ValueError(
                f"train.propagated_loss_fraction is {self.train.propagated_loss_fraction}, but no "
                f"label is propagated: set it to null, or choose an annotate.propagator or rounds "
                f"of train.self_training"
            )
        if self.suggest.acquisitions and self.annotate.unit not in ("per_tile", "total"):
            raise ValueError(
                f"annotate.unit is {self.annotate.unit!r}, but suggest.points counts clicks "
                f"per_tile or in total: choose one of these, or set suggest.acquisitions to []"
            )
        has_crops = MODELS[self.train.model].fitted_by == GRADIENT_DESCENT
        if has_crops and self.train.crop_px > self.tile.size_px:
            raise ValueError(
                f"train.crop_px is {self.train.crop_px}, larger than tile.size_px "
                f"{self.tile.size_px}: a crop is at most as large as a tile"
            )
        return self


def load_params(path: Path) -> Params:
    """Read and validate all of params.yaml.

    Raises:
        ValueError: the file is not a YAML mapping, or keys are missing, unknown or out of range;
            one message lists every error with its key, its value and what is allowed.
        FileNotFoundError: there is no such file.
    """
    values = read_yaml(path)
    params = validate(Params, values, path)
    if missing := missing_keys(Params, values):  # of settings that have a default in the code
        raise ValueError(
            f"{path} lacks {', '.join(missing)}: add what is missing, or restore the file with "
            f"`git checkout {path.name}`"
        )
    return params
