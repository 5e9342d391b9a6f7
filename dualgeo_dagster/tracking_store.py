"""Where MLflow keeps runs: the server that MLFLOW_TRACKING_URI names, or sqlite under the project's home."""

import re
from dataclasses import dataclass
from pathlib import Path

from dualgeo_core.settings import Environment


@dataclass(frozen=True)
class Store:
    tracking_uri: str
    artifact_location: str | None  # None leaves it to the server


def tracking_store(home: Path) -> Store:
    """The store in use."""
    server = Environment().mlflow_tracking_uri
    return Store(tracking_uri=server, artifact_location=None) if server else local_store(home)


def without_password(text: str) -> str:
    """An address, or a message with some, as it may be shown: user names and passwords are left out."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def local_store(home: Path) -> Store:
    """The store of a single machine: `<home>/.mlflow/mlflow.db`, with artifacts beside it."""
    folder = home / ".mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    return Store(tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_location=(folder / "artifacts").as_uri())
