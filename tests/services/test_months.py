"""Long operation of one home: photos added, models retrained, promoted or blocked, and everything rolled back."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import yaml
from conftest import EARTH, Home

from dualgeo_dagster.mlflow.registered_model import CHALLENGER, CHAMPION
from dualgeo_dagster.mlflow.registry import Registry

LOW, HIGH = (f"Difference, 95 % {bound} (points)" for bound in ("low", "high"))
COUNTRIES_AT_FIRST = 2
PROFILE = """
threads: 1
orchestration: {promotion: {margin_points: 30}}  # eight photographers have a wide interval
photos:
  gallery: {photo_set: gallery}
  benchmarks: {by_day: {photo_set: by_day}}
segmenter: {kind: codebook, image_size: 64, mask_size: 16, codebook_classes: 8, codebook_photos: 60}
encoder: {name: efficientnet-lite0, image_size: 64, token_grid: 2}
model: {variants: [joint], width: 32, heads: 2, label_grid: 16, gps_hidden: 32}
training: {epochs: 12, batch_size: 32, learning_rate: 1.0e-3, validation_share: 0.2}
retrieval: {candidates: 10}
evaluation: {bootstrap_samples: 200}
"""


@dataclass(frozen=True)
class Step:
    """Results of one run of the whole graph: aliases, promotion decision, and the answer for one photo."""

    champion: str
    challenger: str
    facts: dict[str, Any]
    check_passed: bool
    answer: dict[str, Any]


class Months:
    """A home whose gallery grows by `dvc add`, and its registry."""

    def __init__(self, folder: Path, home: Home) -> None:
        self.home = home
        self.path = self.home.path
        (self.path / "profiles" / "tiny.yaml").write_text(PROFILE)
        self.home.dualgeo(*f"ingest synthetic --out {folder}/all --part gallery --photos 120 {EARTH}".split())
        self.home.dualgeo(*f"ingest synthetic --out data/by_day --part same_weather --photos 40 {EARTH}".split())
        (self.path / "dvc.yaml").unlink()
        self.photo = self._unpack(folder / "all")
        self.registry = Registry(f"sqlite:///{self.path}/.mlflow/mlflow.db", profile="tiny")

    def _unpack(self, photo_set: Path) -> Path:
        """Writes a photographer's folder and the tables; returns one photo of the benchmark."""
        photos = pd.concat(map(pd.read_parquet, sorted(photo_set.glob("*.parquet"))))
        (self.path / "raw").mkdir()
        for row in photos.itertuples():
            (self.path / "raw" / f"{row.id}.png").write_bytes(row.image)
        first = photos["country"].isin(sorted(photos["country"].unique())[:COUNTRIES_AT_FIRST])
        for name, rows in {"first": photos[first], "added": photos[~first]}.items():
            rows[["id", "latitude", "longitude", "author"]].to_csv(self.path / f"{name}.csv", index=False)
        query = pd.read_parquet(self.path / "data" / "by_day" / "photos-00000.parquet").iloc[0]
        (self.path / "query.png").write_bytes(query["image"])
        return self.path / "query.png"

    def version_data(self, message: str) -> None:
        """Commits the present photo sets: their bytes to DVC, their record to git."""
        self.home.python("-m", "dvc", "add", "-q", "data/gallery", "data/by_day")
        self.home.run("git", "add", "data/gallery.dvc", "data/by_day.dvc", "profiles")
        author = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        self.home.run("git", *author, "commit", "-q", "-m", message)

    def run(self, **training: float) -> Step:
        """Runs the whole graph in Dagster, with training settings changed as in the launchpad."""
        launch = self.path / "launch.yaml"
        launch.write_text(yaml.safe_dump({"ops": {"models": {"config": training}}}))
        one_run = {f"dagster/asset_partition_range_{end}": "by_day" for end in ("start", "end")}
        self.home.python(
            *("-m", "dagster", "job", "execute", "-m", "dualgeo_dagster.definitions", "-j", "tiny_everything"),
            *("--config", str(launch), "--tags", json.dumps(one_run)),
            DAGSTER_HOME=str(self.path / ".dagster"),
        )
        with dg.DagsterInstance.from_config(str(self.path / ".dagster")) as instance:
            run = instance.get_runs(limit=1)[0]
            event = instance.get_latest_materialization_event(dg.AssetKey(["tiny", "champion"]))
            checks = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        verdicts = {
            data.check_name: data.passed for data in (log.dagster_event.asset_check_evaluation_data for log in checks)
        }
        return Step(
            champion=self.registry.version_of(CHAMPION),
            challenger=self.registry.version_of(CHALLENGER),
            facts={key: value.value for key, value in event.asset_materialization.metadata.items()},
            check_passed=verdicts["challenger_is_not_worse"],
            answer=json.loads(self.home.dualgeo("locate", str(self.photo), "--json").stdout),
        )


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory, new_home: Callable[[Path], Home]) -> Months:
    folder = tmp_path_factory.mktemp("months")
    return Months(folder, new_home(folder / "home"))


@pytest.fixture(scope="module")
def steps(months: Months) -> dict[str, Step]:
    """Two versions of the data and four trainings."""
    home, steps = months.home, {}
    (months.path / ".dagster").mkdir()
    home.dualgeo("ingest", "csv", "first.csv", "raw", "--out", "data/gallery")
    months.version_data("two countries")
    steps["first"] = months.run()
    home.dualgeo("ingest", "csv", "added.csv", "raw", "--out", "data/gallery", "--add")
    months.version_data("four countries")
    steps["better"] = months.run()
    steps["equal"] = months.run(seed=5)
    home.run("git", "checkout", "-q", "HEAD~1")
    home.python("-m", "dvc", "checkout", "-q")
    steps["worse"] = months.run()
    return steps


def test_exactly_the_right_versions_are_promoted(steps: dict[str, Step], months: Months) -> None:
    assert {name: step.challenger for name, step in steps.items()} == {
        "first": "1",
        "better": "2",
        "equal": "3",
        "worse": "1",  # trained again on the data of the first one: the same bytes, so nothing is registered
    }
    assert [step.champion for step in steps.values()] == ["1", "2", "3", "3"]
    assert [step.check_passed for step in steps.values()] == [True, True, True, False]
    assert [(entry.version, entry.replaced) for entry in months.registry.trail()][:3] == [
        ("1", None),
        ("2", "1"),
        ("3", "2"),
    ]


def test_each_verdict_rests_on_its_numbers(steps: dict[str, Step]) -> None:
    assert steps["better"].facts[LOW] > 0, "two more countries are found"
    equal = steps["equal"].facts
    assert equal[LOW] <= 0 <= equal[HIGH]
    worse = steps["worse"].facts
    assert worse[HIGH] < 0
    assert worse["Decision"].startswith("blocked: shown worse")
    assert (worse["Champion before"], worse["Challenger"]) == ("3", "1")


def test_a_new_seed_trains_another_model(steps: dict[str, Step]) -> None:
    assert steps["equal"].answer["locator"] != steps["better"].answer["locator"]


def test_the_champion_answers_whatever_was_trained_last(steps: dict[str, Step]) -> None:
    assert steps["worse"].answer == steps["equal"].answer
    assert steps["better"].answer != steps["first"].answer


def test_rollback_restores_the_old_answers(steps: dict[str, Step], months: Months) -> None:
    import base64

    import mlflow

    months.home.dualgeo("rollback", "--reason", "try the one before")
    assert months.registry.version_of(CHAMPION) == "2"
    mlflow.set_tracking_uri(f"sqlite:///{months.path}/.mlflow/mlflow.db")
    served = mlflow.pyfunc.load_model(f"models:/{months.registry.model}@{CHAMPION}")
    request = pd.DataFrame({"photo": [base64.b64encode(months.photo.read_bytes()).decode()]})
    answer = served.predict(request)[0]
    for key in ("latitude", "longitude", "radius_90_km", "candidates", "locator"):
        assert answer[key] == steps["better"].answer[key], key


def test_runs_that_new_photos_ask_for_are_one_mlflow_run(steps: dict[str, Step], months: Months) -> None:
    from mlflow import MlflowClient

    code = (
        "import dagster as dg; from dualgeo_dagster.definitions import defs\n"
        "job, tags = defs.resolve_implicit_global_asset_job_def(), {'dagster/from_automation_condition': 'true'}\n"
        "with dg.DagsterInstance.get() as instance:\n"
        "    for asset in ('gallery_photos', 'gallery_features'):\n"
        "        key = dg.AssetKey(['tiny', asset])\n"
        "        assert job.execute_in_process(asset_selection=[key], tags=tags, instance=instance).success"
    )
    months.home.python("-c", code, DAGSTER_HOME=str(months.path / ".dagster"))
    client = MlflowClient(f"sqlite:///{months.path}/.mlflow/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("dualgeo-tiny").experiment_id])
    [run] = [run for run in runs if run.info.run_name.startswith("tiny, new photos, ")]
    assert run.info.status == "FINISHED"
