"""What `pointcover sample` and `pointcover assess` do, for the command line and for Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pointcover.assessment.assess import Assessment, assess
from pointcover.assessment.class_maps import open_class_maps
from pointcover.assessment.design import Design
from pointcover.assessment.sample import Size, draw_sample
from pointcover.assessment.sample_file import read_sample, write_sample
from pointcover.assessment.settings import SampleSettings


@dataclass(frozen=True)
class SampleTask:
    """A sample to draw."""

    maps: Sequence[Path]
    settings: SampleSettings
    size: Size
    names: Sequence[str] | None = None
    """What ids 0, 1, … of the maps are called, where they do not say it."""
    strata: Path | None = None
    """Raster or polygons of strata that are not the classes of the maps."""

    def write(self, out: Path) -> tuple[Design, dict[str, int]]:
        """Draw the sample, and write it.

        Returns:
            the design, and the number of points by layer.

        Raises:
            ValueError: the maps do not belong together, or the size cannot be reached.
            OSError: the disk is full.
        """
        opened = open_class_maps(self.maps, self.names, self.settings.block_px)
        design = draw_sample(opened, self.settings, self.size, self.strata)
        return design, dict(write_sample(out, design, opened))


@dataclass(frozen=True)
class AssessmentTask:
    """Maps to assess from a labelled sample."""

    maps: Sequence[Path]
    sample: Path
    names: Sequence[str] | None = None
    other_map: bool = False
    """Whether the sample was drawn from other maps of the same land."""

    def estimate(self) -> Assessment:
        """Estimate accuracy and areas.

        Raises:
            ValueError: the sample is not of these maps, has unknown classes, or nobody labelled it.
        """
        labelled = read_sample(self.sample)
        opened = open_class_maps(self.maps, self.names, labelled.design.block_px)
        return assess(opened, labelled, other_map=self.other_map)
