"""What MLflow shows of what stages write: few numbers, under flat names."""

from typing import Any, Final

HEADLINE: Final = "test/miou"
"""What runs are compared by."""


def test_metrics_of(result: dict[str, Any]) -> dict[str, float | None]:
    """Name the scores of metrics/evaluate.json."""
    shown = ("miou", "accuracy", "mean_f1", "kappa", "fwiou", "ece")
    interval = result["miou_interval"]
    return {
        **{f"test/{key}": result[key] for key in shown},
        "test/boundary_f1_3px": result["boundary_f1"]["3px"],
        **{
            f"test/miou_{end}_over_{unit}": interval[unit][end]
            for unit in ("tiles", "regions")
            for end in ("low", "high")
        },
        "test/miou_lowest_region": result["regions"]["miou_lowest"],
        **{f"test/iou/{name}": entry["iou"] for name, entry in result["by_class"].items()},
        **({"oracle_val/miou": result["oracle_val"]["miou"]} if "oracle_val" in result else {}),
    }


def cost_of(labels: dict[str, Any]) -> dict[str, float | None]:
    """Name what the training labels cost, and how many of the grown ones are wrong."""
    shown = ("clicks", "propagated_pixels", "labelled_fraction", "error")
    return {f"labels/{name}": labels[name] for name in shown}


def kept_metrics_of(training: dict[str, Any]) -> dict[str, float | None]:
    """Name what metrics/train.json says of the network that was kept."""
    return {"kept/val_miou": training["val_miou"], "kept/epoch": training["kept_epoch"]}
