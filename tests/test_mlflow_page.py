"""MLflow's page as `dualgeo ui` serves it: it opens in the mode for training, and its other routes are MLflow's own."""

import pytest
from starlette.testclient import TestClient

from dualgeo_dagster.mlflow.links import experiment_page, file_of_run, run_page


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_chooses_training_for_a_new_browser() -> None:
    from dualgeo_dagster.mlflow.server import create_app

    client = TestClient(create_app(), base_url="http://localhost")
    page = client.get("/")
    assert page.status_code == 200
    assert page.text.index("mlflow.workflowType_v1") < page.text.index("static-files/static/js")
    assert client.get("/health").text == "OK"


def test_links_name_the_mode() -> None:
    assert experiment_page("http://a", "1") == "http://a/#/experiments/1/runs?workflowType=machine_learning"
    assert run_page("http://a", "1", "b").endswith("/runs/b?workflowType=machine_learning")
    assert file_of_run("http://a", "b", "plots/x y.png") == "http://a/get-artifact?path=plots/x%20y.png&run_uuid=b"
