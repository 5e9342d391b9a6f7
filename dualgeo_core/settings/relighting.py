"""Settings of relighting: gallery photos as they might look in other light, weather and season."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from dualgeo_core.settings.base import Section, Share


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds[0]} is above {bounds[1]}; write the lower bound first")
    return bounds


Deviation = Annotated[float, Field(ge=0)]  # a standard deviation
Bounds = Annotated[tuple[Deviation, Deviation], AfterValidator(_ascending)]


class RelightingSettings(Section):
    """Colours are from 0 to 1. A gain of spread s is exp of a normal number with standard deviation s."""

    copies: int = Field(0, ge=0, description="Relit copies of each gallery photo; 0 = no relighting.")
    regions: Share = Field(0.5, description="Probability that each class of the label map gets its own light.")
    region_gain: Deviation = Field(0.4, description="Spread of a class's gain.")
    region_tint: Deviation = Field(0.15, description="Spread of a class's gain per colour channel.")
    region_offset: Deviation = Field(0.08, description="Standard deviation of a class's offset.")
    colour: Share = Field(0.5, description="Probability of other colours in the whole photo.")
    saturation: Bounds = Field((0.1, 1.4), description="Bounds of the saturation factor.")
    channel_gain: Deviation = Field(0.12, description="Spread of the gain per colour channel.")
    contrast: Bounds = Field((0.6, 1.2), description="Bounds of the contrast factor.")
    brightness: Deviation = Field(0.08, description="Standard deviation of the brightness offset.")
    veil: Share = Field(0.3, description="Probability of a grey veil, as in fog or rain.")
    veil_opacity: Bounds = Field((0.2, 0.8), description="Bounds of the veil's opacity.")
    veil_unevenness: Deviation = Field(0.3, description="Spread of the opacity over a 3 x 3 field.")
    veil_maximum: Share = Field(0.95, description="Highest opacity anywhere in the photo.")
    veil_grey: Bounds = Field((0.4, 0.85), description="Bounds of the veil's grey level.")
    dark: Share = Field(0.5, description="Probability of darkness, as in the evening or at night.")
    exposure: Bounds = Field((0.12, 0.6), description="Bounds of the exposure factor (log-uniform).")
    exposure_unevenness: Deviation = Field(0.6, description="Spread of the exposure over a 4 x 4 field.")
    dark_tint: Deviation = Field(0.2, description="Spread of the gain per colour channel in darkness.")
    lamps: int = Field(5, ge=0, description="Maximum number of lamps in a dark photo.")
    blur: Share = Field(0.2, description="Probability of blur.")
    noise: Deviation = Field(0.05, description="Highest standard deviation of noise; every relit photo has some.")

    @model_validator(mode="after")
    def _something_changes(self) -> Self:
        if self.copies and not self.regions + self.colour + self.veil + self.dark:
            raise ValueError("regions, colour, veil and dark are all 0; raise one of them, or set copies to 0")
        if self.exposure[0] == 0:
            raise ValueError("exposure begins at 0, which is black; use a lower bound above 0")
        return self
