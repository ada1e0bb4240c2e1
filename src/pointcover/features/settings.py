"""Settings of the pixel features."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from pointcover.validation import Section

FilterName = Literal[
    "gaussian",
    "laplacian_of_gaussian",
    "gradient_magnitude",
    "difference_of_gaussians",
    "structure_tensor_eigenvalues",
    "hessian_eigenvalues",
]

EncoderViews = Literal[1, 2, 4, 8]

Sigma = Annotated[float, Field(ge=0.3, le=64)]
Scale = Annotated[float, Field(ge=0.25, le=8)]


class FilterBankSettings(Section):
    """Which filters are computed, and at which scales."""

    bands: bool = Field(default=True, description="Include the bands themselves.")
    sigmas_px: tuple[Sigma, ...] = Field(
        default=(0.7, 1.0, 1.6, 3.5, 5.0, 10.0),
        description="Standard deviations of the Gaussians; every filter is computed at each.",
    )
    filters: tuple[FilterName, ...] = Field(
        default=get_args(FilterName),
        description="Filters of every band at every sigma; eigenvalues are two features each.",
    )
    hsv_sigmas_px: tuple[Annotated[float, Field(ge=0, le=64)], ...] = Field(
        default=(0.0,),
        description="Hue, saturation and value of the first three bands, taken as red, green and "
        "blue, after smoothing with these sigmas; 0 does not smooth.",
    )
    excess_green_sigmas_px: tuple[Annotated[float, Field(ge=0, le=64)], ...] = Field(
        default=(0.0, 1.6),
        description="Excess green (2G-R-B)/(R+G+B) of the first three bands, after smoothing with "
        "these sigmas; 0 does not smooth.",
    )

    @field_validator("sigmas_px", "filters", "hsv_sigmas_px", "excess_green_sigmas_px")
    @classmethod
    def _is_unique(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        """Check that no feature occurs twice."""
        if len(set(values)) < len(values):
            raise ValueError(f"got {list(values)}, wanted each only once: remove the repeated ones")
        return values


class LocalStatisticsSettings(Section):
    """Around how large a place colours and texture are averaged."""

    sigmas_px: tuple[Sigma, ...] = Field(
        default=(8.0, 16.0, 32.0),
        min_length=1,
        description="Standard deviations of the Gaussians that average; each adds all statistics "
        "once more.",
    )
    fine_sigmas_px: tuple[Sigma, ...] = Field(
        default=(0.7, 1.6),
        description="Standard deviations at which the edges and spots are found that are averaged.",
    )

    @field_validator("sigmas_px", "fine_sigmas_px")
    @classmethod
    def _is_unique(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        """Refuse the same feature twice."""
        if len(set(values)) < len(values):
            raise ValueError(f"got {list(values)}, wanted each only once: remove the repeated ones")
        return values


class EncoderFeatureSettings(Section):
    """Which levels of a frozen encoder become features, and at which scales of the image."""

    scales: tuple[Scale, ...] = Field(
        default=(2.0,),
        min_length=1,
        description="Factors by which the image is resized (bicubic) before the encoder; powers "
        "of two. Each scale adds all levels once more.",
    )
    levels: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None,
        description="Levels to use, 1 for the finest (usually half of the size); null for all.",
    )
    views: EncoderViews = Field(
        default=1,
        description="Views of the image whose levels are averaged: 1, 2 (also rotated by 180 "
        "degrees), 4 (also flipped), 8 (also rotated by 90 degrees).",
    )
    margin_cells: int = Field(
        default=6,
        ge=0,
        le=64,
        description="Cells of the coarsest level that are read around a window, so that its "
        "features are nearly those of the whole image.",
    )

    @field_validator("scales")
    @classmethod
    def _are_powers_of_two(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        """Check that cells of the levels align with pixels at every scale."""
        wrong = [scale for scale in scales if scale not in (0.25, 0.5, 1, 2, 4, 8)]
        if wrong or len(set(scales)) < len(scales):
            raise ValueError(
                f"got {list(scales)}, wanted different powers of two from 0.25 to 8: choose "
                "some of 0.25, 0.5, 1, 2, 4, 8"
            )
        return scales
