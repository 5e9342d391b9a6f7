"""What happens by itself once switched on in the UI: rebuilding what new data changes, and a weekly retraining."""

import dagster as dg

from dualgeo_core.files import fingerprint
from dualgeo_core.workspace import GALLERY
from dualgeo_dagster.photo_versions import recorded_version
from dualgeo_dagster.workspace import ALL_BENCHMARKS, BENCHMARKS, JOB, workspace

# A dependency counts as changed by its data version, so that what was made again to the same result asks for nothing.
REBUILD = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    .since(dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated())
    .with_label("a dependency's data version changed")
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
    & ~dg.AutomationCondition.in_progress()
)
OBSERVE = dg.AutomationCondition.on_cron("*/5 * * * *")


@dg.observable_source_asset(group_name="photos", automation_condition=OBSERVE)
def gallery_files() -> dg.DataVersion:
    """What DVC says the gallery's set is made from; looked at every five minutes."""
    return dg.DataVersion(_version(GALLERY))


@dg.observable_source_asset(group_name="photos", automation_condition=OBSERVE, partitions_def=BENCHMARKS)
def benchmark_files() -> dg.DataVersionsByPartition:
    """What DVC says each benchmark's set is made from; looked at every five minutes."""
    return dg.DataVersionsByPartition({name: _version(name) for name in workspace().profile.photos.benchmarks})


def _version(photos_name: str) -> str:
    name = workspace().source(photos_name).photo_set
    return fingerprint(recorded_version(name, home=workspace().settings.home))


everything = dg.define_asset_job(
    JOB, selection="*", description="The whole graph, from photos to the model that serves, as one run."
)


@dg.schedule(
    job=everything,
    cron_schedule=workspace().profile.automation.retraining_cron,
    default_status=dg.DefaultScheduleStatus.RUNNING
    if workspace().profile.automation.weekly_retraining
    else dg.DefaultScheduleStatus.STOPPED,
)
def weekly_retraining(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Everything is made again, with a model trained from new weights, and that model challenges the champion.

    The date is the seed: a tick that is tried again goes on with the same model.
    """
    seed = int(context.scheduled_execution_time.strftime("%Y%m%d"))
    return dg.RunRequest(tags=ALL_BENCHMARKS, run_config={"ops": {"models": {"config": {"seed": seed}}}})


rebuild_what_changed = dg.AutomationConditionSensorDefinition(
    "rebuild_what_changed",
    target=dg.AssetSelection.all(include_sources=True),
    default_status=dg.DefaultSensorStatus.RUNNING
    if workspace().profile.automation.rebuild
    else dg.DefaultSensorStatus.STOPPED,
    description="Looks at DVC's record of every photo set, and makes anew what depends on one that changed.",
)
