"""Formats of labels in pixels of images, which are told by their contents."""

from collections.abc import Mapping
from typing import Final

from pointcover.vectors.formats.base import LabelFormat
from pointcover.vectors.formats.coco import COCO
from pointcover.vectors.formats.cvat import CVAT
from pointcover.vectors.formats.label_studio import LABEL_STUDIO
from pointcover.vectors.formats.labelme import LABELME
from pointcover.vectors.formats.table import CSV

FORMATS: Final[Mapping[str, LabelFormat]] = {
    "coco": COCO,
    "label-studio": LABEL_STUDIO,
    "cvat": CVAT,
    "labelme": LABELME,
    "csv": CSV,
}
