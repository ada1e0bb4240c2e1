"""Select the metrics that are recorded in MLflow from the stages' JSON files, and name them."""

from typing import Any, Final

HEADLINE: Final = "test/miou"
"""The metric by which runs are compared."""


def test_metrics_of(result: dict[str, Any]) -> dict[str, float | None]:
    """Return the test scores of metrics/evaluate.json by their names in MLflow."""
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
    """Return number, coverage and error of the training labels by their names in MLflow."""
    shown = ("clicks", "propagated_pixels", "labelled_fraction", "error")
    return {f"labels/{name}": labels[name] for name in shown}


def kept_metrics_of(training: dict[str, Any]) -> dict[str, float | None]:
    """Return score and epoch of the kept network, of metrics/train.json, by names in MLflow."""
    return {"kept/val_miou": training["val_miou"], "kept/epoch": training["kept_epoch"]}
