"""The MLflow tracking store: the server in MLFLOW_TRACKING_URI, or sqlite under DUALGEO_HOME."""

import re
from dataclasses import dataclass
from pathlib import Path

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.retries import comes_from_outside
from dualgeo_dagster.settings import TrackingEnvironment


@dataclass(frozen=True)
class Store:
    tracking_uri: str
    artifact_location: str | None  # None: the server decides


def tracking_store(home: Path) -> Store:
    """The store in use: the configured server, otherwise the local store."""
    server = TrackingEnvironment().tracking_uri
    return Store(tracking_uri=server, artifact_location=None) if server else local_store(home)


def require_answer(tracking_uri: str) -> None:
    """Raises InputError if the MLflow server does not answer."""
    from mlflow import MlflowClient

    try:
        MlflowClient(tracking_uri=tracking_uri).search_experiments(max_results=1)
    except Exception as error:
        if not comes_from_outside(error):
            raise
        address = without_password(tracking_uri)
        raise InputError(f"MLflow at {address} does not answer: start it, or unset MLFLOW_TRACKING_URI") from None


def without_password(text: str) -> str:
    """The text without user names and passwords in its URLs."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def local_store(home: Path) -> Store:
    """The store of a single machine: `<home>/.mlflow/mlflow.db`, with artifacts next to it."""
    folder = home / ".mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    return Store(tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_location=(folder / "artifacts").as_uri())
