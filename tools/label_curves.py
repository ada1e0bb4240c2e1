"""Draw the scores of the page for labelling against clicks, beside those of the pipeline.

    python tools/label_curves.py

Reads benchmarks/label_curves.json, which holds what `benchmarks/labelling.py annotate` and
`pipeline` wrote, and writes docs/images/label_curves.png.
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
TITLES: Final = {"valley": "Synthetic valley", "dubai": "Dubai"}
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
    figure, panels = plt.subplots(1, len(TITLES), figsize=(9, 3.7), sharey=True, dpi=110)
    for panel, (dataset, title) in zip(panels, TITLES.items(), strict=True):
        for name, (label, colour, style) in LINES.items():
            points = curves[dataset].get(name)
            if points is None:
                continue
            xs, ys = [one["clicks"] for one in points], [one["miou"] for one in points]
            panel.plot(xs, ys, style, color=colour, label=label, markersize=4, linewidth=1.8)
        panel.set_title(title, fontsize=11)
        panel.set_xlabel("clicks")
        panel.set_xlim(0, 206)
        panel.set_ylim(0, 0.65)
        panel.grid(color="#dddddd", linewidth=0.7)
        panel.spines[["top", "right"]].set_visible(False)
        above = panel.secondary_xaxis(
            "top", functions=(lambda x: x * SECONDS / 60, lambda x: x * 60 / SECONDS)
        )
        above.set_xlabel("minutes of a person, at 3 s a click", fontsize=9)
    panels[0].set_ylabel("mIoU of images without clicks")
    panels[0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    main()
