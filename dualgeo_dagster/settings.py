"""Settings of Dagster and MLflow, from the profile's section `orchestration` and the environment."""

import getpass
import logging
import os
import time
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import Profile, Section, faults


def _cron(expression: str) -> str:
    """The cron expression, if Dagster accepts it and it has a next time."""
    from dagster._utils.schedules import cron_string_iterator, is_valid_cron_string
    from dagster._vendored.croniter.croniter import CroniterBadDateError

    try:
        if is_valid_cron_string(expression) and next(cron_string_iterator(time.time(), expression, "UTC")):
            return expression
    except CroniterBadDateError:  # a date that no year has, such as 31 April
        pass
    raise ValueError(f"{expression!r} is not a time that occurs; use five cron fields, e.g. 0 3 * * 1 (Monday, 3:00)")


def _owner(owner: str) -> str:
    """The owner, if Dagster accepts it."""
    import dagster as dg

    try:
        dg.AssetSpec("asset", owners=[owner])
    except dg.DagsterInvalidDefinitionError:
        raise ValueError(f"{owner!r} is not an owner; use an e-mail address or team:NAME") from None
    return owner


class AutomationSettings(Section):
    """Automations of Dagster's daemon, off by default. A switch set in Dagster's UI overrides these settings."""

    rebuild: bool = Field(False, description="Rebuild everything downstream of a photo set whose DVC version changed.")
    weekly_retraining: bool = Field(
        False, description="Train new models from new initial weights at `retraining_cron`."
    )
    retraining_cron: Annotated[str, AfterValidator(_cron)] = Field(
        "0 3 * * 1", description="Time of the retraining, as a cron expression (UTC)."
    )


class PromotionSettings(Section):
    """Settings of the comparison of challenger and champion."""

    benchmark: str | None = Field(None, description="Benchmark of the comparison; None: the first of the profile.")
    metric: Literal["acc_1km", "acc_25km", "acc_200km", "acc_750km", "acc_2500km"] = "acc_25km"
    margin_points: float = Field(
        5.0,
        ge=0,
        description="Largest loss in points of the metric that the 95 % interval may contain for a promotion.",
    )


class OrchestrationSettings(Section):
    """The section `orchestration` of a profile."""

    owners: tuple[Annotated[str, AfterValidator(_owner)], ...] = Field(
        ("team:dualgeo",), description="Owners of the assets in Dagster: e-mail addresses or team:NAME."
    )
    automation: AutomationSettings = AutomationSettings()
    promotion: PromotionSettings = PromotionSettings()


class TrackingEnvironment(BaseSettings):
    """The environment variables MLFLOW_TRACKING_URI, DUALGEO_MLFLOW_UI and DUALGEO_DAGSTER_UI."""

    model_config = SettingsConfigDict(extra="ignore")

    tracking_uri: str | None = Field(None, validation_alias="MLFLOW_TRACKING_URI")
    ui: str = Field(
        "http://127.0.0.1:5000",
        validation_alias="DUALGEO_MLFLOW_UI",
        description="Address of MLflow's web page, for links in Dagster.",
    )
    dagster_ui: str = Field(
        "http://127.0.0.1:3000",
        validation_alias="DUALGEO_DAGSTER_UI",
        description="Address of Dagster's web page, for links in MLflow and in the terminal.",
    )


def orchestration_of(profile: Profile) -> OrchestrationSettings:
    """The profile's section `orchestration`. Raises InputError with every invalid key if it is invalid."""
    try:
        settings = OrchestrationSettings.model_validate(profile.orchestration)
    except ValidationError as error:
        raise InputError(f"profile {profile.name}, section orchestration: {faults(error)}") from None
    benchmark = settings.promotion.benchmark
    if benchmark is not None and benchmark not in profile.photos.benchmarks:
        raise InputError(
            f"profile {profile.name}: orchestration.promotion.benchmark is {benchmark}, "
            f"which is not in photos.benchmarks; use one of: {', '.join(profile.photos.benchmarks)}"
        )
    return settings


def current_user() -> str:
    """The name of the user; in a container, the user may have an id without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def keep_libraries_quiet() -> None:
    """Turns off telemetry, update checks, progress bars and slow retries of libraries.

    Environment variables that are set already stay. Also turns off MLflow's tracebacks of a locked database.
    """
    for variable, value in {
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }.items():
        os.environ.setdefault(variable, value)
    # MLflow logs a traceback of every database error that it also raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
