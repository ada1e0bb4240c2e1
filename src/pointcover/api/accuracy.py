"""Accuracy and areas of maps from a sample: what `pointcover sample` and `assess` use."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pointcover.assessment.assess import Assessment
from pointcover.assessment.report import check_folder, write_report
from pointcover.assessment.sample import Size
from pointcover.assessment.settings import SampleSettings
from pointcover.assessment.tasks import AssessmentTask, SampleTask
from pointcover.runtime.atomic_files import check_new_file
from pointcover.validation import validate

Place = str | PathLike[str]


def sample(
    maps: Sequence[Place],
    out: Place,
    *,
    points: int | None = None,
    half_width: float | None = None,
    replace: bool = False,
    **settings: Any,
) -> Path:
    """Draw a probability sample of maps, to be labelled blind, as `pointcover sample` does.

    Args:
        maps: rasters of class ids, such as `Map.classes`.
        out: the GeoPackage to write.
        points: how many, or
        half_width: of the 95 % interval of overall accuracy, for which as many as needed are drawn.
        replace: whether an existing file may be replaced, with the labels in it.
        **settings: see SampleSettings: `allocation="equal"`, `seed=1`, …

    Returns:
        the path of the GeoPackage.

    Raises:
        ValueError: the maps do not belong together, or a setting has no such value.
        FileExistsError: the file exists, and may not be replaced.
    """
    check_new_file(Path(out), replace=replace)
    chosen = validate(SampleSettings, settings, Path("sample"))
    task = SampleTask([Path(one) for one in maps], chosen, Size(points, half_width, None))
    task.write(Path(out))
    return Path(out)


def assess(
    maps: Sequence[Place],
    labelled: Place,
    out: Place | None = None,
    *,
    other_map: bool = False,
    replace: bool = False,
) -> Assessment:
    """Estimate accuracy and areas from a labelled sample, as `pointcover assess` does.

    Args:
        maps: those of the sample, or of the same land (`other_map`).
        labelled: the file of `sample`, with its classes filled in.
        out: a folder for the report; none by default.
        other_map: whether the sample was drawn from other maps.
        replace: whether a report in the folder may be replaced.

    Raises:
        ValueError: the sample is not of these maps, has unknown classes, or nobody labelled it.
    """
    if out is not None:
        check_folder(Path(out), force=replace)
    found = AssessmentTask(
        [Path(one) for one in maps], Path(labelled), other_map=other_map
    ).estimate()
    if out is not None:
        write_report(Path(out), found)
    return found
