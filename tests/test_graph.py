"""The whole graph of a tiny profile: its results in Dagster, MLflow, DVC and the terminal."""

import json
import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from conftest import Home
from mlflow import MlflowClient
from typer.testing import CliRunner

from dualgeo_core.base.errors import InputError
from dualgeo_core.cli import app

BENCHMARKS = {"by_day", "by_night"}


@pytest.fixture(scope="module")
def instance(graph_home: Home) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_config(str(graph_home.path / ".dagster"))


@pytest.fixture(scope="module")
def mlflow_run(graph_home: Home, instance: dg.DagsterInstance):
    client = MlflowClient(f"sqlite:///{graph_home.path}/.mlflow/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("dualgeo-tiny").experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1, "one MLflow run per Dagster run"
    assert parents[0].data.tags["dagster.run_id"] == instance.get_runs()[0].run_id
    return client, parents[0]


@pytest.fixture(scope="module")
def benchmark_runs(mlflow_run):
    client, parent = mlflow_run
    wanted = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    runs = {run.data.tags["part"]: run for run in client.search_runs([parent.info.experiment_id], wanted)}
    assert runs.keys() == {"system", "training joint", *(f"benchmark {name}" for name in BENCHMARKS)}
    return {name: runs[f"benchmark {name}"] for name in BENCHMARKS}


def test_everything_is_materialized_by_one_run(instance: dg.DagsterInstance) -> None:
    run = instance.get_runs()[0]
    assert run.status == dg.DagsterRunStatus.SUCCESS
    for asset in ("gallery_photos", "segmenter", "gallery_masks", "gallery_features", "models", "gallery_embeddings"):
        assert instance.get_latest_materialization_event(dg.AssetKey(["tiny", asset])).run_id == run.run_id
    for asset in ("gallery_index", "refiner", "report"):
        assert instance.get_latest_materialization_event(dg.AssetKey(["tiny", asset])) is not None
    for asset in ("benchmark_photos", "candidates", "clusters", "lmm_answers", "predictions", "scores"):
        assert instance.get_materialized_partitions(dg.AssetKey(["tiny", asset])) == BENCHMARKS


def test_every_check_passes(instance: dg.DagsterInstance) -> None:
    records = [
        event.dagster_event.asset_check_evaluation_data
        for event in instance.all_logs(
            instance.get_runs()[0].run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        )
    ]
    assert len(records) == 8
    assert all(record.passed for record in records), [record for record in records if not record.passed]


def test_data_version_of_the_gallery_is_its_dvc_hash(graph_home: Home, instance: dg.DagsterInstance) -> None:
    import yaml

    dvc_hash = yaml.safe_load((graph_home.path / "dvc.lock").read_text())["stages"]["gallery"]["outs"][0]["md5"]
    event = instance.get_latest_materialization_event(dg.AssetKey(["tiny", "gallery_photos"]))
    assert event.asset_materialization.tags["dagster/data_version"] == dvc_hash


def test_mlflow_run_holds_settings_curve_scores_and_data(graph_home: Home, mlflow_run) -> None:
    client, run = mlflow_run
    assert run.info.status == "FINISHED"
    assert run.data.params["training.batch_size"] == "32"
    wanted = f"tags.part = 'training joint' and tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    [training] = client.search_runs([run.info.experiment_id], wanted)
    curve = client.get_metric_history(training.info.run_id, "loss")
    assert len({point.step for point in curve}) > 1
    inputs = {given.dataset.name: given.dataset.digest for given in run.inputs.dataset_inputs}
    assert inputs.keys() == {"gallery", *BENCHMARKS}
    assert run.data.tags["dvc.gallery"] == inputs["gallery"]
    assert run.info.run_name.startswith("tiny, whole graph, ")
    assert {"report.html", "scores.json"} <= {file.path for file in client.list_artifacts(run.info.run_id)}


def test_each_benchmark_is_a_child_run_with_the_same_metrics(mlflow_run, benchmark_runs) -> None:
    client, parent = mlflow_run
    assert benchmark_runs.keys() == BENCHMARKS
    day, night = (benchmark_runs[name] for name in sorted(BENCHMARKS))
    assert day.info.status == night.info.status == "FINISHED"
    assert day.data.metrics.keys() == night.data.metrics.keys(), "compared at once"
    headline = parent.data.metrics["headline/by_day within 25 km percent"]
    assert day.data.metrics["acc_25km"] == pytest.approx(headline, abs=0.06)
    assert day.data.params == parent.data.params
    assert [given.dataset.name for given in day.inputs.dataset_inputs] == ["by_day"]
    files = {file.path for folder in ("", "plots") for file in client.list_artifacts(day.info.run_id, folder)}
    assert {"plots/error_cdf.png", "plots/error_map.png", "predictions.json", "queries.html"} <= files


def test_report_page_shows_every_benchmark_in_one_file(mlflow_run) -> None:
    client, run = mlflow_run
    page = Path(client.download_artifacts(run.info.run_id, "report.html")).read_text()
    assert all(f"<h2>{benchmark}</h2>" in page for benchmark in BENCHMARKS)
    assert page.count("data:image/png;base64,") == 1 + 3 * len(BENCHMARKS)
    assert "src='http" not in page


def test_single_queries_are_on_the_map_with_photo_true_place_and_candidates(mlflow_run, benchmark_runs) -> None:
    client, _ = mlflow_run
    page = Path(client.download_artifacts(benchmark_runs["by_day"].info.run_id, "queries.html")).read_text()
    records = json.loads(page.split('id="data">')[1].split("</script>")[0])["records"]
    assert records[-1]["photo"].startswith("Least sure answer, ")
    for record in records:
        assert record["thumbnail"].startswith("data:image/jpeg;base64,")
        assert record["candidates"][0]["thumbnail"].startswith("data:image/jpeg;base64,")
        assert record["spread"]["points"], "the posterior"
        assert len(record["truth"]) == 2


def test_dagster_run_is_found_by_profile_data_and_commit(instance: dg.DagsterInstance) -> None:
    tags = instance.get_runs(dg.RunsFilter(tags={"profile": "tiny"}))[0].tags
    event = instance.get_latest_materialization_event(dg.AssetKey(["tiny", "gallery_photos"]))
    assert event.asset_materialization.tags["dagster/data_version"].startswith(tags["data.gallery"])
    assert "commit" in tags


def test_tables_say_their_rows_and_columns(graph_home: Home, instance: dg.DagsterInstance) -> None:
    event = instance.get_latest_materialization_event(dg.AssetKey(["tiny", "predictions"]))
    metadata = event.asset_materialization.metadata
    columns = {column.name: column.description for column in metadata["dagster/column_schema"].value.columns}
    assert columns["latitude"] == "Latitude in degrees north (WGS84)"
    for asset in ("gallery_photos", "candidates", "clusters", "lmm_answers", "predictions"):
        told = instance.get_latest_materialization_event(dg.AssetKey(["tiny", asset])).asset_materialization.metadata
        unexplained = [c.name for c in told["dagster/column_schema"].value.columns if c.description is None]
        assert unexplained == [], asset
    benchmark = event.asset_materialization.partition
    frame = pd.read_parquet(graph_home.path / "artifacts" / "tiny" / "predictions" / benchmark / "table.parquet")
    assert metadata["dagster/row_count"].value == len(frame)


def test_assets_link_their_mlflow_run(instance: dg.DagsterInstance, mlflow_run) -> None:
    _, run = mlflow_run
    event = instance.get_latest_materialization_event(dg.AssetKey(["tiny", "gallery_index"]))
    link = event.asset_materialization.metadata["MLflow"].value
    assert f"/runs/{run.info.run_id}?workflowType=machine_learning)" in link


def test_report_agrees_with_predictions(graph_home: Home) -> None:
    from dualgeo_core.base.geo import haversine_km
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import load_settings

    workspace = Workspace(load_settings("tiny", home=graph_home.path))
    truth = workspace.photos("by_day").frame.set_index("id")
    found = pd.read_parquet(workspace.folder("predictions", "by_day") / "table.parquet")
    found = found[found["method"] == "joint, posterior"].set_index("id").loc[truth.index]
    errors = haversine_km(found["latitude"], found["longitude"], truth["latitude"], truth["longitude"])
    from dualgeo_core.pipeline.report import all_scores

    metrics = {name: by_method["joint, posterior"] for name, by_method in all_scores(workspace).items()}
    assert metrics["by_day"]["acc_25km"] == pytest.approx(100 * (errors <= 25).mean(), abs=1e-3)


def test_views_made_with_other_settings_are_refused(graph_home: Home) -> None:
    from dualgeo_core.pipeline.opening import open_views
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import Settings, load_settings

    profile = load_settings("tiny", home=graph_home.path).profile
    encoder = profile.encoder.model_copy(update={"image_size": 96})
    changed = Settings(profile=profile.model_copy(update={"encoder": encoder}), home=graph_home.path)
    with pytest.raises(InputError, match=r"segmenter was made from other settings than there are now"):
        open_views(Workspace(changed), "gallery")


def test_stale_predictions_of_another_benchmark_do_not_block(
    graph_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dualgeo_core.pipeline.stage2 import make_predictions
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import Settings, load_settings
    from dualgeo_dagster.defs import checks

    for folder in ("data", "artifacts", "profiles"):
        shutil.copytree(graph_home.path / folder, tmp_path / folder)
    profile = load_settings("tiny", home=tmp_path).profile
    refinement = profile.refinement.model_copy(update={"dbscan_radius_km": 40.0})
    changed = Workspace(Settings(profile=profile.model_copy(update={"refinement": refinement}), home=tmp_path))
    make_predictions(changed, "by_day")
    monkeypatch.setattr(checks, "workspace", lambda: changed)
    result = checks.predictions_check()
    assert result.passed
    assert result.metadata["Ids are unique"].value == "✓ 16 of 16", "of by_day alone"


def test_terminal_shows_scores_and_where_to_look(graph_home: Home) -> None:
    assert "joint, posterior" in graph_home.printed
    assert "make ui" in graph_home.printed
    assert "MLflow run" in graph_home.printed


def test_locate_answers_with_gallery_photos(graph_home: Home) -> None:
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import load_settings

    workspace = Workspace(load_settings("tiny", home=graph_home.path))
    photo = graph_home.path / "query.jpg"
    photo.write_bytes(workspace.photos("by_day").image(workspace.photos("by_day").frame["id"][0]))
    answer = json.loads(graph_home.dualgeo("locate", str(photo), "--json").stdout)
    assert answer["status"] == "ok"
    assert -90 <= answer["latitude"] <= 90
    gallery = workspace.photos("gallery").frame.set_index("id")
    assert len(answer["candidates"]) == workspace.profile.retrieval.candidates
    for candidate in answer["candidates"]:
        assert candidate["latitude"] == gallery["latitude"][candidate["gallery_id"]]


def test_locate_refuses_an_unreadable_photo(graph_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALGEO_HOME", str(graph_home.path))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a photo")
    done = CliRunner().invoke(app, ["locate", "--profile", "tiny", str(broken)], catch_exceptions=False)
    assert done.exit_code == 2
    assert "broken.jpg is not a readable photo" in done.output


def test_a_set_that_dvc_does_not_know_stops_the_run_with_one_line(graph_home: Home, tmp_path) -> None:
    profile = tmp_path / "strange.yaml"
    tiny = (graph_home.path / "profiles" / "tiny.yaml").read_text()
    profile.write_text(tiny.replace("{photo_set: gallery}", "{photo_set: nowhere}"))
    dagster_home = tmp_path / "dagster"
    dagster_home.mkdir()
    done = graph_home.python(
        "-m", "dualgeo_core.cli", "run", "--profile", str(profile), code=2, DAGSTER_HOME=str(dagster_home)
    )
    assert done.stderr.splitlines()[-1].startswith("dualgeo: DVC does not track data/nowhere")


def test_definitions_load_without_heavy_libraries(graph_home: Home) -> None:
    code = (
        "import sys, dualgeo_dagster.definitions as d; d.defs.resolve_all_job_defs()\n"
        "print([m for m in ('torch', 'mlflow', 'litellm', 'transformers', 'great_expectations') if m in sys.modules])"
    )
    assert graph_home.python("-c", code).stdout.strip() == "[]"


def test_every_byte_of_a_finished_home_is_recorded(graph_home: Home) -> None:
    from dualgeo_core.pipeline.verification import verify
    from dualgeo_core.pipeline.workspace import Workspace
    from dualgeo_core.settings import load_settings

    assert verify(Workspace(load_settings("tiny", home=graph_home.path))) == []
