"""What happens by itself once switched on in the UI: rebuilding what new data changes, and a weekly retraining."""

import dagster as dg

from dualgeo_core.files import fingerprint
from dualgeo_core.workspace import GALLERY
from dualgeo_dagster.photo_versions import recorded_version
from dualgeo_dagster.workspace import ALL_BENCHMARKS, BENCHMARKS, workspace

JOB = "everything"

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


@dg.schedule(job=everything, cron_schedule="0 3 * * 1")
def weekly_retraining() -> dg.RunRequest:
    """Every Monday at 3: everything is made again, and the new model challenges the champion."""
    return dg.RunRequest(tags=ALL_BENCHMARKS)
