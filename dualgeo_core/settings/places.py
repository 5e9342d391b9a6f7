"""Settings of candidates that are places, scored by GeoCLIP's location encoder."""

from typing import Annotated

from pydantic import Field

from dualgeo_core.settings.base import Positive, Section


class PlaceSettings(Section):
    best: Positive = Field(20, description="Best-scored photo places, each a candidate of its own.")
    rest: Positive = Field(100, description="Candidates that stand for equal parts of all other photo places.")
    rings_km: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (20.0, 5.0, 1.25), description="Radii in km of rings of further candidates, from coarse to fine."
    )
    ringed: Positive = Field(3, description="Best candidates that get a ring of each radius.")
