"""Training settings of a single run as fields of Dagster's launchpad, with the bounds of the profile's settings."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster._config import ConfigScalar, ConfigScalarKind, PostProcessingError

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import Settings, TrainingSettings

KINDS = {int: ConfigScalarKind.INT, float: ConfigScalarKind.FLOAT}


class TrainingValue(ConfigScalar):
    """A number that Dagster accepts at launch only if it is a valid training setting.

    The bounds of a pydantic field (`dg.Config`) would be checked only when the step starts, after the run has queued.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        field = TrainingSettings.model_fields[name]
        assert field.annotation in KINDS, f"{name} is not a number"
        super().__init__(f"Training_{name}", given_name=name, scalar_kind=KINDS[field.annotation])
        self._settings, self._name = settings, name

    def post_process(self, value: Any) -> Any:
        try:
            return getattr(self._settings.with_training({self._name: value}).profile.training, self._name)
        except InputError as error:
            raise PostProcessingError(str(error)) from None


def training_fields(settings: Settings, names: Sequence[str]) -> dict[str, dg.Field]:
    """A launchpad field for each named training setting; its default is the profile's value."""
    return {
        name: dg.Field(
            TrainingValue(settings, name),
            default_value=getattr(settings.profile.training, name),
            description=TrainingSettings.model_fields[name].description,
        )
        for name in names
    }
