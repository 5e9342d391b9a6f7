"""The registered model: nothing is lost when two users promote, when the home moves, or when versions are deleted."""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy
from conftest import TINY_PROFILE
from typer.testing import CliRunner

from dualgeo_core.base.errors import InputError
from dualgeo_core.cli import app
from dualgeo_core.commands.options import chosen_locator
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import load_settings
from dualgeo_dagster.mlflow.locators import bring_into_service
from dualgeo_dagster.mlflow.promotion import decide_promotion
from dualgeo_dagster.mlflow.registered_model import CHALLENGER, CHAMPION, fitting
from dualgeo_dagster.mlflow.registry import Registry
from dualgeo_dagster.mlflow.run import Curve, TrackedRun
from dualgeo_dagster.mlflow.store import local_store
from dualgeo_dagster.retries import comes_from_outside
from dualgeo_dagster.settings import PromotionSettings

PREDICTIONS = pd.DataFrame({"id": ["a.jpg"], "latitude": [1.0], "longitude": [2.0]})


class Shop:
    """A home with an MLflow database, in which small versions are registered."""

    def __init__(self, home: Path) -> None:
        self.home = home
        store = local_store(home)
        self.uri = store.tracking_uri
        self.registry = Registry(store.tracking_uri, profile="tiny")
        self.client = self.registry._client
        experiment = self.client.create_experiment("dualgeo-tiny", artifact_location=store.artifact_location)
        self.run_id = self.client.create_run(experiment).info.run_id

    def put(self, content: str) -> str:
        """Registers a version that holds `content`."""
        locator = self.home / "locator"
        locator.mkdir(exist_ok=True)
        (locator / "weights").write_text(content)
        return self.registry.register(
            run_id=self.run_id,
            locator=locator,
            predictions={"by_day": PREDICTIONS},
            tags={"locator": content},
            description="made by a test",
        )

    def files(self) -> list[str]:
        """The content of every locator that is stored."""
        return sorted(path.read_text() for path in (self.home / ".mlflow").rglob("weights"))


@pytest.fixture
def shop(tmp_path: Path, empty_mlflow: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch) -> Shop:
    home = tmp_path / "home"
    (home / ".mlflow").mkdir(parents=True)
    empty_mlflow(home / ".mlflow")
    (home / "profiles").mkdir()
    (home / "profiles" / "tiny.yaml").write_text(TINY_PROFILE)
    monkeypatch.setenv("DUALGEO_HOME", str(home))
    return Shop(home)


@pytest.fixture
def locked(shop: Shop) -> Iterator[Callable[[], Any]]:
    """`locked()`: while entered, another process holds the database. MLflow then waits 0 s instead of 20 s."""

    def shorten(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> Any:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 0"), parameters

    @contextmanager
    def hold() -> Iterator[None]:
        other = sqlite3.connect(shop.home / ".mlflow" / "mlflow.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.close()

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", shorten, retval=True)
    yield hold
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", shorten)


def test_a_locked_database_is_an_outage_and_other_database_errors_are_not(shop: Shop, locked: Any) -> None:
    with locked(), pytest.raises(Exception, match="database is locked") as held:
        shop.client.log_metric(shop.run_id, "loss", 1.0)
    assert comes_from_outside(held.value)
    with pytest.raises(sqlite3.OperationalError) as broken:
        sqlite3.connect(shop.home / "none").execute("SELECT * FROM nothing")
    assert not comes_from_outside(broken.value)


def test_what_is_champion_answers_in_the_terminal(shop: Shop) -> None:
    """`dualgeo locate` reads the folder that a promotion or a rollback fills with the champion's locator."""
    settings = load_settings("tiny", home=shop.home)
    assert settings.locator_in_service == settings.artifacts / "locator"
    first, second = shop.put("first"), shop.put("second")
    for command in (["promote", first], ["promote", second], ["rollback"]):
        CliRunner().invoke(app, [*command, "--profile", "tiny"], catch_exceptions=False)
        champion = shop.registry.version_of(CHAMPION)
        weights = (settings.locator_in_service / "weights").read_text()
        assert weights == {first: "first", second: "second"}[champion]
    assert champion == first


def test_a_promotion_is_a_sentence_on_the_pages_of_version_and_model(shop: Shop) -> None:
    first, second = shop.put("first"), shop.put("second")
    shop.registry.promote(first, reason="the first version")
    shop.registry.promote(second, reason="not shown worse")
    version = shop.client.get_model_version("dualgeo-tiny", second)
    assert version.description.startswith("made by a test")
    assert f"Version {second} replaced version {first} on " in version.description
    assert version.description.endswith("Reason: not shown worse.")
    model = shop.client.get_registered_model("dualgeo-tiny")
    title, _, newest, oldest = model.description.splitlines()
    assert title == "Champions, newest first:"
    assert newest.endswith("Reason: not shown worse.")
    assert oldest.endswith("Reason: the first version.")
    assert [tag for tag in model.tags if not tag.startswith("mlflow.")] == [], "MLflow's page hides these alone"
    assert shop.put("second") == second
    assert "Reason: not shown worse." in shop.client.get_model_version("dualgeo-tiny", second).description


def test_a_version_answers_by_its_number(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings("tiny", home=shop.home)
    first, second = shop.put("first"), shop.put("second")
    shop.registry.promote(second, reason="test")
    bring_into_service(shop.registry, settings)
    capfd.readouterr()
    assert (chosen_locator(settings, first) / "weights").read_text() == "first"
    assert capfd.readouterr().err == ""
    assert chosen_locator(settings, second) == chosen_locator(settings, None) == settings.champion
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "download_locator", None)
        assert (chosen_locator(settings, first) / "weights").read_text() == "first", "it is downloaded once"
    with pytest.raises(InputError, match="dualgeo-tiny has no version 7"):
        chosen_locator(settings, "7")
    shop.put("third")
    CliRunner().invoke(app, ["versions", "--profile", "tiny", "--prune", "1"], catch_exceptions=False)
    assert not settings.version(first).exists()


def test_the_curve_waits_for_a_locked_database(shop: Shop, locked: Any) -> None:
    curve = Curve(TrackedRun(shop.client, shop.run_id))
    with locked():
        curve.add(1, {"loss": 3.0})
        curve.add(2, {"loss": 2.0})
    curve.finish()
    assert [(point.step, point.value) for point in shop.client.get_metric_history(shop.run_id, "loss")] == [
        (1, 3.0),
        (2, 2.0),
    ]


def test_versions_says_in_one_line_that_the_database_is_locked(shop: Shop, locked: Any) -> None:
    with locked(), pytest.raises(InputError, match=r"MLflow's database .* is locked by another process"):
        CliRunner().invoke(app, ["versions", "--profile", "tiny"], catch_exceptions=False)


def test_two_promotions_at_once_are_both_in_the_trail(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = [shop.put("first"), shop.put("second")]
    both_have_read = threading.Barrier(2)
    write = type(shop.client).set_registered_model_tag

    def meet_and_write(*arguments: Any) -> None:
        both_have_read.wait(timeout=60)
        write(*arguments)

    monkeypatch.setattr(type(shop.client), "set_registered_model_tag", meet_and_write)
    users = [
        threading.Thread(target=lambda version=version: shop.registry.promote(version, reason=f"user {version}"))
        for version in versions
    ]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert sorted(entry.reason for entry in shop.registry.trail()) == ["user 1", "user 2"]
    page = shop.client.get_registered_model("dualgeo-tiny").description
    assert "Reason: user 1." in page
    assert "Reason: user 2." in page


def test_an_identical_locator_is_reused_and_becomes_the_challenger(shop: Shop) -> None:
    assert [shop.put("first"), shop.put("second"), shop.put("first")] == ["1", "2", "1"]
    assert shop.files() == ["first", "second"]
    assert shop.registry.version_of(CHALLENGER) == "1"


def test_a_reused_version_that_was_rolled_back_stays_out_of_service(shop: Shop) -> None:
    workspace = Workspace(load_settings("tiny", home=shop.home))
    for content in ("first", "second"):
        shop.registry.promote(shop.put(content), reason="test")
    shop.registry.rollback(reason="worse on my street")
    assert shop.put("second") == "2"
    decision = decide_promotion(shop.registry, workspace, PromotionSettings())
    assert (decision.promoted, decision.champion) == (False, "1")
    assert "worse on my street" in decision.facts["decision"]
    shop.registry.promote("2", reason="it was better after all")
    assert decide_promotion(shop.registry, workspace, PromotionSettings()).champion == "2"


def test_prune_deletes_files_and_keeps_what_is_in_use(shop: Shop) -> None:
    for content in ("1 previous", "2 champion", "3 unused", "4 unused", "5 newest"):
        shop.put(content)
    shop.registry.promote("1", reason="test")
    shop.registry.promote("2", reason="test")
    said = CliRunner().invoke(app, ["versions", "--profile", "tiny", "--prune", "1"], catch_exceptions=False).stdout
    assert "version 3  deleted" in said
    assert "version 4  deleted" in said
    assert shop.registry.versions() == ["5", "2", "1"]
    assert shop.files() == ["1 previous", "2 champion", "5 newest"]
    assert shop.registry.rollback(reason="bad").version == "1"


def test_a_version_that_was_half_deleted_is_not_used(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in ("1 unused", "2 newest"):
        shop.put(content)

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(shop.client), "delete_model_version", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.registry.prune(1)
    assert shop.files() == ["2 newest"]
    with pytest.raises(InputError, match="version 1 of dualgeo-tiny was half deleted"):
        shop.registry.promote("1", reason="test")
    assert shop.put("1 unused") == "3"
    assert shop.files() == ["1 unused", "2 newest"]
    assert shop.registry.prune(2) == ["1"]
    assert shop.registry.versions() == ["3", "2"]


def test_a_copied_home_uses_its_own_artifacts(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient, artifacts, set_tracking_uri

    shop.registry.promote(shop.put("first"), reason="test")
    shop.client.log_text(shop.run_id, "page", "report.html")
    outside = tmp_path / "elsewhere"
    other = shop.client.create_run(shop.client.create_experiment("other", artifact_location=outside.as_uri()))

    copy = tmp_path / "restored at 100 %"
    shutil.copytree(shop.home, copy)
    shutil.rmtree(shop.home)
    store = local_store(copy)
    restored = Registry(store.tracking_uri, profile="tiny")
    client = MlflowClient(store.tracking_uri)

    pd.testing.assert_frame_equal(restored.predictions_of("1", "by_day"), PREDICTIONS)
    folder = Path(artifacts.download_artifacts(artifact_uri=f"models:/{restored.model}@{CHAMPION}"))
    assert folder.is_relative_to(copy)
    assert (folder / "artifacts" / "locator" / "weights").read_text() == "first"
    assert client.get_run(shop.run_id).info.artifact_uri.startswith((copy / ".mlflow" / "artifacts").as_uri())
    assert client.get_run(other.info.run_id).info.artifact_uri.startswith(outside.as_uri())
    later = client.create_run(client.get_run(shop.run_id).info.experiment_id)
    client.log_text(later.info.run_id, "page", "later.html")
    assert {path.name for path in (copy / ".mlflow" / "artifacts").rglob("*.html")} == {"report.html", "later.html"}
    assert not shop.home.exists()
    set_tracking_uri(None)


def test_a_promotion_that_failed_after_the_alias_moved_is_completed_by_repeating_it(shop: Shop) -> None:
    first, second = shop.put("first"), shop.put("second")
    run = partial(CliRunner().invoke, app)
    assert run(["promote", first, "--profile", "tiny"]).exit_code == 0
    shop.registry.promote(second, reason="the process ended here")

    repeated = run(["promote", second, "--profile", "tiny"])

    assert "already the champion" in str(repeated.exception)
    assert (load_settings("tiny", home=shop.home).champion / "weights").read_text() == "second"


@pytest.mark.parametrize("fails", ["set_registered_model_alias", "update_registered_model", "locator"])
def test_a_rollback_that_failed_is_completed_by_repeating_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Wherever MLflow stopped answering, the second attempt restores the same version, and only the third the next."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("MLflow stopped here")

    run = partial(CliRunner().invoke, app)
    settings = load_settings("tiny", home=shop.home)
    for content in ("first", "second", "third"):
        assert run(["promote", shop.put(content), "--profile", "tiny"]).exit_code == 0
    with monkeypatch.context() as patch:
        broken = (Registry, "download_locator") if fails == "locator" else (type(shop.client), fails)
        patch.setattr(*broken, refuse)
        assert run(["rollback", "--profile", "tiny", "--reason", "bad"]).exit_code != 0

    said = run(["rollback", "--profile", "tiny", "--reason", "bad"], catch_exceptions=False).stdout

    assert said == "version 2 is the champion again; before: 3\n"
    assert shop.registry.version_of(CHAMPION) == "2"
    assert (settings.champion / "weights").read_text() == "second"
    assert len([entry for entry in shop.registry.trail() if entry.reason == "rollback: bad"]) == 1
    assert "Reason: rollback: bad." in shop.client.get_registered_model("dualgeo-tiny").description
    run(["rollback", "--profile", "tiny"], catch_exceptions=False)
    assert shop.registry.version_of(CHAMPION) == "1"


def test_the_first_promotion_of_a_version_that_does_not_exist_is_one_line(shop: Shop) -> None:
    shop.put("first")
    done = CliRunner().invoke(app, ["promote", "7", "--profile", "tiny"])
    assert isinstance(done.exception, InputError)
    assert "no version 7" in str(done.exception)


def test_a_description_fits_into_mlflows_database_with_the_newest_promotions_first() -> None:
    lines = [f"- version {number} replaced version {number - 1}, by hand, at some time" for number in range(200, 0, -1)]
    kept = fitting("\n".join(lines))
    assert 4900 < len(kept) <= 5000
    assert kept.splitlines() == lines[: len(kept.splitlines())]
    assert len(fitting("x" * 9000)) == 5000
    assert fitting("short\n") == "short\n"
