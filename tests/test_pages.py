"""What people read on Dagster's and MLflow's pages about a run: names with units, pictures, tables and reasons."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import Home
from mlflow import MlflowClient

OPEN = 1000  # Dagster's page shows Markdown of fewer characters without a click


@pytest.fixture(scope="module")
def instance(graph_home: Home) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_config(str(graph_home.path / ".dagster"))


@pytest.fixture(scope="module")
def client(graph_home: Home) -> MlflowClient:
    return MlflowClient(f"sqlite:///{graph_home.path}/.mlflow/mlflow.db")


@pytest.fixture(scope="module")
def whole_run(client: MlflowClient) -> Any:
    [run] = [
        run
        for run in client.search_runs([client.get_experiment_by_name("dualgeo-tiny").experiment_id])
        if "part" not in run.data.tags
    ]
    return run


def metadata(instance: dg.DagsterInstance, asset: str, partition: str | None = None) -> dict[str, Any]:
    wanted = dg.AssetRecordsFilter(dg.AssetKey(["tiny", asset]), asset_partitions=[partition] if partition else None)
    [record] = instance.fetch_materializations(wanted, limit=1).records
    return dict(record.asset_materialization.metadata)


@pytest.mark.parametrize("benchmark", ["by_day", "by_night"])
def test_scores_are_named_with_units_and_rounded(instance: dg.DagsterInstance, benchmark: str) -> None:
    shown = metadata(instance, "scores", benchmark)
    for name in ("Within 25 km (%)", "Within the 50 % radius (%)", "Median error (km)"):
        assert len(f"{shown[name].value:g}") <= 6, "16 photos do not support more digits"
    assert 0 <= shown["Within 25 km (%)"].value <= 100
    assert " to " in shown["Within 25 km, 95 % interval (%)"].value
    assert not [name for name in shown if name.startswith(("acc_", "coverage_"))]


@pytest.mark.parametrize("benchmark", ["by_day", "by_night"])
def test_every_benchmark_shows_its_pictures_openly_and_compares_all(
    instance: dg.DagsterInstance, benchmark: str
) -> None:
    shown = metadata(instance, "scores", benchmark)
    for title in ("Map of errors", "Share of photos within each distance", "Least sure answer"):
        assert shown[title].value.startswith("![")
        assert "/get-artifact?path=previews/plots/" in shown[title].value
    for text in (entry.value for entry in shown.values() if isinstance(entry, dg.MarkdownMetadataValue)):
        assert len(text) < OPEN
    assert "| by_day | 16 |" in shown["All benchmarks"].value
    assert "| by_night | 16 |" in shown["All benchmarks"].value


def test_checks_say_what_was_checked_and_what_was_found(instance: dg.DagsterInstance) -> None:
    [run] = instance.get_runs()
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    found = {
        data.check_name: {name: value.value for name, value in data.metadata.items()}
        for data in (entry.dagster_event.asset_check_evaluation_data for entry in logs)
    }
    assert found["positions_and_radii"]["Ids are unique"] == "by_day: ✓ 16 of 16; by_night: ✓ 16 of 16"
    assert found["unit_length_and_spread"]["There are 240 vectors, one per photo and representation"] == "✓ 240"


def test_the_champion_lists_the_versions_and_its_reason(instance: dg.DagsterInstance) -> None:
    shown = metadata(instance, "champion")
    assert shown["Decision"].value == "promoted: the first version"
    table = shown["Versions"].value.splitlines()
    assert re.match(r"\| 1 champion challenger [0-9a-f]{8} \| by_day ", table[2]), "the data version, too"
    assert table[2].endswith("| promoted: the first version |")
    assert next(iter(shown)) == "Champion"


def test_a_run_has_few_ordered_metrics_and_its_load_elsewhere(whole_run: Any) -> None:
    names = sorted(whole_run.data.metrics)
    assert names[0] == "headline/by_day within 25 km percent"
    assert len(names) < 12
    assert not [name for name in names if name.startswith("system/")]
    assert {"training/loss", "training/validation recall within 25 km percent"} <= set(names)


def test_a_run_says_where_it_comes_from_and_what_came_out(client: MlflowClient, whole_run: Any) -> None:
    tags = whole_run.data.tags
    note = tags["mlflow.note.content"]
    assert note.startswith("## Promotion"), "the page shows the first lines without a click"
    assert f"/runs/{tags['dagster.run_id']})" in note
    assert "| by_night | 16 |" in note
    assert "Decision on version 1: promoted: the first version" in note
    assert tags["mlflow.source.name"] == "dagster job tiny_everything"
    plots = {file.path for file in client.list_artifacts(whole_run.info.run_id, "plots")}
    assert plots == {"plots/all_benchmarks.png", "plots/error_map_by_day.png", "plots/error_map_by_night.png"}
    assert "retrieval.probes" not in whole_run.data.params, "only choices are parameters"
    settings = Path(client.download_artifacts(whole_run.info.run_id, "profile.yaml")).read_text()
    assert "bootstrap_samples: 50" in settings


def test_a_model_version_says_its_scores_data_and_reason(client: MlflowClient, graph_home: Home) -> None:
    import mlflow

    version = client.get_model_version("dualgeo-tiny", "1")
    assert version.description.startswith("Within 25 km (%): by_day ")
    assert "## Scores" in version.description
    assert "gallery " in version.description
    assert "Version 1 was the first champion on " in version.description
    assert "Reason: the first version." in version.description
    mlflow.set_tracking_uri(f"sqlite:///{graph_home.path}/.mlflow/mlflow.db")
    signature = mlflow.models.get_model_info("models:/dualgeo-tiny/1").signature
    assert {"latitude", "radius_90_km", "status"} <= set(signature.outputs.input_names())


def test_the_terminal_prints_links_into_both_pages(graph_home: Home, whole_run: Any) -> None:
    run_id = whole_run.info.run_id
    printed = graph_home.printed.replace("\n", "")
    assert f"http://127.0.0.1:3000/runs/{whole_run.data.tags['dagster.run_id']}" in printed
    assert f"/runs/{run_id}?workflowType=machine_learning" in printed
