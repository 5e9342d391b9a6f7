"""Addresses of MLflow's pages, in the mode "Model training", and of the files that its server hands out."""

from urllib.parse import quote

# MLflow's page opens in the mode "GenAI", with empty pages about traces, unless the address names the other mode.
MODE = "workflowType=machine_learning"


def experiment_page(server: str, experiment_id: str) -> str:
    """The list of an experiment's runs."""
    return f"{server}/#/experiments/{experiment_id}/runs?{MODE}"


def run_page(server: str, experiment_id: str, run_id: str) -> str:
    """The page of one run."""
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?{MODE}"


def version_page(server: str, model: str, version: str) -> str:
    """The page of a version of a registered model."""
    return f"{server}/#/models/{model}/versions/{version}?{MODE}"


def file_of_run(server: str, run_id: str, path: str) -> str:
    """A file of a run, as an image source for other pages."""
    return f"{server}/get-artifact?path={quote(path)}&run_uuid={run_id}"
