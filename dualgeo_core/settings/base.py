"""The base class of all sections of a profile, and the types that sections share."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dualgeo_core.base.files import fingerprint

Share = Annotated[float, Field(ge=0, le=1)]
InnerShare = Annotated[float, Field(gt=0, lt=1)]  # a share that leaves photos on both sides of a split
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # the range that every random generator in use accepts
Text = Annotated[str, Field(min_length=1)]


def matching(pattern: str, hint: str) -> AfterValidator:
    """A check that a text matches `pattern`; its message ends with `hint`, which says what to write instead."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not valid; {hint}")
        return text

    return AfterValidator(check)


class Section(BaseModel):
    """A section of a profile. Unknown keys, infinite numbers and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ViewSettings(Section):
    """Settings from which one view of a photo is computed."""

    @property
    def fingerprint(self) -> str:
        """A hash of the settings that change the view; the batch size does not."""
        return fingerprint(self.model_dump(mode="json", exclude={"batch_size"}))
