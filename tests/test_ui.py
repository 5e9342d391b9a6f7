"""Both web pages in a headless Chromium. `make test-ui` runs these tests and keeps screenshots."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SCREENSHOTS, WAIT_MS, Home
from mlflow import MlflowClient
from service_processes import Service, free_port, wait_for

pytestmark = pytest.mark.ui
GREEN = "rgba(46, 204, 129"  # background colour of a materialized, up-to-date asset
ASSETS_ARE_GREEN = f"""names => {{
    const cards = [...document.querySelectorAll('foreignObject')].filter(
        card => names.some(name => card.textContent.trim().startsWith(name + 'Latest event')));
    const isGreen = card => [...card.querySelectorAll('div')].some(
        part => getComputedStyle(part).backgroundColor.startsWith('{GREEN}'));
    return cards.length === names.length && cards.every(isGreen);
}}"""


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {"dagster": free_port(), "mlflow": free_port()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, new_home: Callable[[Path], Home], ports: dict[str, int]) -> Home:
    """A home in which the whole graph ran twice, the second time with longer training."""
    home = new_home(tmp_path_factory.mktemp("ui") / "home")
    home.environment |= {  # the addresses of links and pictures
        "DUALGEO_DAGSTER_UI": f"http://127.0.0.1:{ports['dagster']}",
        "DUALGEO_MLFLOW_UI": f"http://127.0.0.1:{ports['mlflow']}",
    }
    profile = home.path / "profiles" / "tiny.yaml"
    home.dualgeo("run", "--profile", "tiny")
    profile.write_text(profile.read_text().replace("epochs: 2", "epochs: 6"))
    home.dualgeo("run", "--profile", "tiny")
    return home


@pytest.fixture(scope="module")
def addresses(home: Home, ports: dict[str, int]) -> Iterator[dict[str, str]]:
    """The addresses of Dagster's and MLflow's pages, started as by `make ui`."""
    options = [f"--{name}-port={port}" for name, port in ports.items()]
    environment = {**home.environment, "DAGSTER_HOME": str(home.path / ".dagster")}
    servers = Service(
        *(sys.executable, "-m", "dualgeo_core.cli", "ui", *options),
        log=home.path / "ui.log",
        environment=environment,
        cwd=home.path,
    )
    found = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    try:
        for address in found.values():
            servers.wait_until_up(address)
        yield found
    finally:
        servers.stop()


@pytest.fixture(scope="module")
def pages(addresses: dict[str, str], home: Home) -> dict[str, str]:
    """The links that `dualgeo ui` printed, by server."""
    printed = wait_for(
        lambda: (text := (home.path / "ui.log").read_text()) and "Press Ctrl-C" in text and text, "links"
    )
    return {
        line.split()[0]: line.split()[1] for line in printed.splitlines() if line.startswith(("Dagster ", "MLflow "))
    }


def test_every_asset_of_the_graph_is_green(page: Any, addresses: dict[str, str]) -> None:
    from dualgeo_dagster.definitions import defs  # of another profile, whose assets have the same names

    graph = defs.resolve_asset_graph()
    groups: dict[str, list[str]] = {}
    for key in graph.materializable_asset_keys:
        groups.setdefault(graph.get(key).group_name, []).append(key.path[-1])
    assert len(groups) > 5
    for group, names in groups.items():  # the graph of all groups is too small to show states
        page.goto(f"{addresses['dagster']}/locations/tiny/asset-groups/{group}/lineage")
        page.get_by_role("button", name="Materialize").first.wait_for()
        page.wait_for_function(ASSETS_ARE_GREEN, arg=names)


def test_an_asset_is_materialized_by_a_click(page: Any, addresses: dict[str, str]) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=WAIT_MS)
    page.goto(f"{addresses['dagster']}/assets/tiny/gallery_index")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Launched run").first.wait_for()
    page.goto(f"{addresses['dagster']}/runs")
    page.get_by_text("tiny / gallery_index").first.wait_for()
    expect(page.get_by_text("Success", exact=True)).to_have_count(3)


def test_launchpad_shows_the_training_settings(page: Any, addresses: dict[str, str]) -> None:
    page.goto(f"{addresses['dagster']}/assets/tiny/models")
    page.get_by_role("button", name="Materialize").first.click(modifiers=["Shift"])
    page.get_by_text("epochs: 6").wait_for()
    page.get_by_text("No errors").wait_for()


def test_a_new_user_finds_run_pictures_comparison_and_reason_by_clicks(
    page: Any, addresses: dict[str, str], pages: dict[str, str], home: Home
) -> None:
    """From the links that `dualgeo ui` prints: the run, one benchmark's pictures, two runs compared, and the reason."""
    page.goto(pages["Dagster"])
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("link", name="tiny_everything").first.click()
    page.get_by_role("tab", name="Runs").click()
    page.get_by_text("Manually launched").first.wait_for()
    shoot(page, "walk_1_runs_of_the_job")

    page.goto(pages["Dagster"])
    open_asset(page, "scores")
    page.get_by_role("tab", name="Partitions").click()
    page.get_by_text("by_night", exact=True).first.click()
    picture = page.get_by_alt_text("by_night: map of errors")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("picture => picture.naturalWidth > 100", arg=picture.element_handle())
    shoot(page, "walk_2_pictures_of_a_benchmark")

    page.goto(pages["MLflow"])
    for run in whole_graph_runs(home):
        row = page.get_by_role("row").filter(has_text=run.info.run_name)
        row.get_by_role("checkbox").first.click()
    page.get_by_role("button", name="Compare").first.click()
    metric = page.get_by_text("headline/by_day within 25 km percent", exact=True).first
    metric.scroll_into_view_if_needed()
    metric.wait_for()
    shoot(page, "walk_3_two_runs_compared")

    page.goto(pages["Dagster"])
    open_asset(page, "champion")
    page.get_by_text("Decision", exact=True).first.wait_for()
    shoot(page, "walk_4_the_reason_of_the_champion")


def test_mlflow_opens_in_the_mode_for_training_and_stays_there(page: Any, addresses: dict[str, str]) -> None:
    page.goto(addresses["mlflow"])
    page.get_by_text("dualgeo-tiny").first.click()
    page.get_by_text(", whole graph,").first.click()
    page.get_by_text("About this run").wait_for()
    page.get_by_text("headline/by_day within 25 km percent", exact=True).first.wait_for()
    assert page.get_by_text("Detect issues").count() == 0
    assert page.get_by_text("MLflow Assistant").count() <= 1  # the button; the open panel has the name, too
    assert page.evaluate("localStorage.getItem('mlflow.workflowType_v1')") == '"machine_learning"'


def test_two_mlflow_runs_stand_side_by_side(page: Any, addresses: dict[str, str], home: Home) -> None:
    first, second = whole_graph_runs(home)
    runs = f'["{first.info.run_id}","{second.info.run_id}"]'
    experiments = f'["{first.info.experiment_id}"]'
    page.goto(f"{addresses['mlflow']}/#/compare-runs?runs={runs}&experiments={experiments}")
    for run in (first, second):
        page.get_by_text(run.info.run_name).first.wait_for()
    headline = "headline/by_day within 25 km percent"
    metrics = page.get_by_text(headline, exact=True).first
    metrics.scroll_into_view_if_needed()
    metrics.wait_for()
    for value in {run.data.metrics[headline] for run in (first, second)}:
        page.get_by_text(f"{value:g}").first.wait_for()


def test_mlflow_lists_benchmarks_below_their_run(page: Any, addresses: dict[str, str], home: Home) -> None:
    first, _ = whole_graph_runs(home)
    page.goto(f"{addresses['mlflow']}/#/experiments/{first.info.experiment_id}/runs")
    page.get_by_role("row").filter(has_text=first.info.run_name).get_by_role("button").first.click()
    page.get_by_text("tiny, benchmark by_night").wait_for()


def test_mlflow_opens_the_report_page(page: Any, addresses: dict[str, str], home: Home) -> None:
    first, _ = whole_graph_runs(home)
    experiment = first.info.experiment_id
    page.goto(f"{addresses['mlflow']}/#/experiments/{experiment}/runs/{first.info.run_id}/artifacts/report.html")
    page.frame_locator("iframe").get_by_role("heading", name="by_night").wait_for()


def test_the_terminal_shows_neither_warnings_nor_events(page: Any, addresses: dict[str, str], home: Home) -> None:
    """Runs after the test that materializes an asset, whose events the terminal must not print."""
    page.goto(addresses["dagster"])
    printed = (home.path / "ui.log").read_text()
    noise = ("SupersessionWarning", "BetaWarning", "DeprecationWarning", "dagster.yaml", " - DEBUG - ", "GET /")
    noise += ("Security middleware", "No cursor for event type", "Traceback")
    assert [line for line in printed.splitlines() if any(part in line for part in noise)] == []


def shoot(page: Any, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


def open_asset(page: Any, asset: str) -> None:
    """Opens an asset's page from Dagster's catalog, which lists only the assets in view."""
    page.get_by_role("link", name="Catalog").click()
    page.get_by_text("tiny /").first.hover()
    link = page.locator(f"a[href='/assets/tiny/{asset}']")
    while not link.is_visible():
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(200)
    link.click()


def whole_graph_runs(home: Home) -> list[Any]:
    client = MlflowClient(f"sqlite:///{home.path}/.mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("dualgeo-tiny")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    return [run for run in runs if ", whole graph," in run.info.run_name]
