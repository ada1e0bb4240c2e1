"""Draw the scores of the page for labelling against clicks, beside those of the pipeline.

    python tools/label_curves.py

Reads benchmarks/label_curves.json, which holds what `benchmarks/next_points.py` (above) and
`benchmarks/labelling.py` wrote (below), and writes docs/images/label_curves.png.
"""

import json
from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
CURVES: Final = ROOT / "benchmarks" / "label_curves.json"
PICTURE: Final = ROOT / "docs" / "images" / "label_curves.png"
TITLES: Final = {
    "next_valley": "Three valleys, means of nine runs",
    "next_dubai": "Dubai at a third, means of six runs",
    "valley": "Synthetic valley, one run",
    "dubai": "Dubai, one run",
}
LINES: Final = {
    "suggested": ("page, suggested clicks", "#0072B2", "o-"),
    "random": ("page, random clicks", "#56B4E9", "o--"),
    "pipeline": ("pipeline, uniform clicks", "#D55E00", "s-"),
}
SECONDS: Final = 3.0
"""Of a person for a click."""


def main() -> None:
    """Draw one panel a dataset."""
    curves = json.loads(CURVES.read_text(encoding="utf-8"))
    figure, panels = plt.subplots(2, 2, figsize=(9, 7), sharey=True, dpi=110)
    for panel, (dataset, title) in zip(panels.flat, TITLES.items(), strict=True):
        for name, (label, colour, style) in LINES.items():
            points = curves[dataset].get(name)
            if points is None:
                continue
            xs, ys = [one["clicks"] for one in points], [one["miou"] for one in points]
            panel.plot(xs, ys, style, color=colour, label=label, markersize=4, linewidth=1.8)
        panel.set_title(title, fontsize=11)
        panel.set_xlabel("clicks")
        panel.set_xlim(0, 206)
        panel.set_ylim(0, 0.75)
        panel.grid(color="#dddddd", linewidth=0.7)
        panel.spines[["top", "right"]].set_visible(False)
        above = panel.secondary_xaxis(
            "top", functions=(lambda x: x * SECONDS / 60, lambda x: x * 60 / SECONDS)
        )
        above.set_xlabel("minutes of a person, at 3 s a click", fontsize=9)
        panel.legend(frameon=False, fontsize=9, loc="lower right")
    for panel in panels[:, 0]:
        panel.set_ylabel("mIoU of images without clicks")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    main()
