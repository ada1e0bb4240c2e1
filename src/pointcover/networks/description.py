"""The description of a model, which is in model.json and in ONNX files; read without torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pointcover.networks.pixel_classifiers.settings import PixelClassifierSettings
from pointcover.networks.settings import NetworkSettings
from pointcover.tileset.tiles import TileSet

if TYPE_CHECKING:
    from pointcover.networks.segmenter import Segmenter


@dataclass(frozen=True)
class Checkpoint:
    """The description of a model without its weights."""

    network: NetworkSettings
    tile_set: TileSet
    training: dict[str, Any]
    """The epoch that was kept, and its scores on sparse validation masks."""
    label_fractions: tuple[float, ...] | None = None
    """Each class's fraction of the training loss, see `loss_fractions.py`; None where model.json
    is older than that. Older files name it label_shares."""
    classifier: PixelClassifierSettings | None = None
    """Of a pixel classifier: its features and the sizes of its head."""

    def build(self) -> "Segmenter":
        """Build the segmenter that takes the weights.

        Raises:
            ValueError: a name is unknown, or values do not go together.
        """
        from pointcover.networks.build import BandStatistics, build_fitted

        statistics = BandStatistics(self.tile_set.mean, self.tile_set.std)
        classes = len(self.tile_set.classes)
        return build_fitted(self.network, statistics, classes, self.classifier)

    def to_json(self) -> dict[str, Any]:
        """Return the contents of model.json, which `from_json` reads."""
        return {
            **self.network.model_dump(include=set(NetworkSettings.model_fields)),
            "training": self.training,
            "label_fractions": self._fractions_by_name(),
            **({"classifier": self.classifier.model_dump(mode="json")} if self.classifier else {}),
            **self.tile_set.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Checkpoint":
        """Make a checkpoint from the result of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the values do not describe a model.
        """
        tile_set, fractions = (
            TileSet.from_json(values),
            values.get("label_fractions", values.get("label_shares")),
        )
        # Older model.json have no width.
        network = {"width": 1.0} | {
            key: values[key] for key in NetworkSettings.model_fields if key in values
        }
        return cls(
            NetworkSettings.model_validate(network),
            tile_set,
            values["training"],
            tuple(float(fractions[name]) for name in tile_set.classes.names) if fractions else None,
            PixelClassifierSettings.model_validate(values["classifier"])
            if "classifier" in values
            else None,
        )

    def _fractions_by_name(self) -> dict[str, float] | None:
        if self.label_fractions is None:
            return None
        return dict(zip(self.tile_set.classes.names, self.label_fractions, strict=True))


def check_alike(name: str, got: TileSet, other: str, wanted: TileSet, remedy: str) -> None:
    """Check that the probabilities of two models can be averaged.

    Args:
        name: of one model, for the message.
        got: the tile set that it was trained on.
        other: the other model's name.
        wanted: the tile set that the other one was trained on.
        remedy: what to do, besides training both on one dataset.

    Raises:
        ValueError: they differ in classes, bands or value range.
    """
    for what, one, two in (
        ("classes", ", ".join(got.classes.names), ", ".join(wanted.classes.names)),
        ("class colours", got.classes.colours, wanted.classes.colours),
        ("bands", got.bands, wanted.bands),
        ("value range", got.value_range, wanted.value_range),
    ):
        if one != two:
            raise ValueError(
                f"{name} and {other} differ in their {what}: {one} against {two}. {remedy}, or "
                f"train both on one dataset"
            )
