"""The job that runs the whole graph, and its weekly schedule."""

import dagster as dg

from dualgeo_dagster.defs.checks import INTACT
from dualgeo_dagster.profile import ALL_BENCHMARKS, JOB, NAME, orchestration

everything = dg.define_asset_job(
    JOB,
    selection=dg.AssetSelection.all() - dg.AssetSelection.checks(INTACT),
    tags={"profile": NAME},
    description="The whole graph as one run, from photos to the model in service. Each benchmark is a partition. To "
    "start a run on this page, click *Materialize all* and select *All*. The launchpad takes one partition only.",
)


@dg.schedule(
    name=f"{NAME}_weekly_retraining",
    job=everything,
    cron_schedule=orchestration().automation.retraining_cron,
    default_status=dg.DefaultScheduleStatus.RUNNING
    if orchestration().automation.weekly_retraining
    else dg.DefaultScheduleStatus.STOPPED,
    description="Runs the whole graph with newly trained models. The new version becomes the challenger.",
)
def weekly_retraining(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    # The date is the seed, so a retried tick resumes the same training.
    seed = int(context.scheduled_execution_time.strftime("%Y%m%d"))
    return dg.RunRequest(tags=ALL_BENCHMARKS, run_config={"ops": {"models": {"config": {"seed": seed}}}})
