"""The MLflow tracking store: the server in MLFLOW_TRACKING_URI, or sqlite under DUALGEO_HOME."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.retries import comes_from_outside
from dualgeo_dagster.settings import TrackingEnvironment

FOLDER, ARTIFACTS, DATABASE = ".mlflow", "artifacts", "mlflow.db"
# Columns of MLflow's database that hold addresses of artifacts.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Store:
    tracking_uri: str
    artifact_location: str | None  # None: the server decides


def tracking_store(home: Path) -> Store:
    """The store in use: the configured server, otherwise the local store."""
    server = TrackingEnvironment().tracking_uri
    return Store(tracking_uri=server, artifact_location=None) if server else local_store(home)


def require_answer(home: Path) -> None:
    """Raises InputError if MLflow's server does not answer or its database is locked."""
    from mlflow import MlflowClient

    with outages_as_input_errors():
        MlflowClient(tracking_uri=tracking_store(home).tracking_uri).search_experiments(max_results=1)


@contextmanager
def outages_as_input_errors() -> Iterator[None]:
    """Raises InputError instead of the errors of a server that does not answer or of a locked database."""
    try:
        yield
    except Exception as error:
        if not comes_from_outside(error):
            raise
        server = TrackingEnvironment().tracking_uri
        if server is None or server.startswith("sqlite:"):
            database = without_password(server) if server else f"{FOLDER}/{DATABASE}"
            fault = f"MLflow's database {database} is locked by another process: wait until it has finished, or stop it"
        else:
            address = without_password(server)
            fault = f"MLflow at {address} does not answer: start it, or unset MLFLOW_TRACKING_URI"
        raise InputError(fault) from None


def without_password(text: str) -> str:
    """The text without user names and passwords in its URLs."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def local_store(home: Path) -> Store:
    """The store of a single machine: `<home>/.mlflow/mlflow.db`, with artifacts next to it."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    _follow_moved_home(folder)
    return Store(tracking_uri=f"sqlite:///{folder}/{DATABASE}", artifact_location=(folder / ARTIFACTS).as_uri())


def require_database(home: Path) -> None:
    """Raises InputError if the database of the local store cannot be opened. MLflow's server would try for minutes."""
    database = home / FOLDER / DATABASE
    try:
        with closing(sqlite3.connect(database, timeout=20)) as connection:
            connection.execute("SELECT name FROM sqlite_master LIMIT 1")
    except sqlite3.Error as error:
        raise InputError(
            f"MLflow's database {database} cannot be opened ({error}): restore it from a backup, or move it away to "
            "begin a new one"
        ) from None


@cache
def _follow_moved_home(folder: Path) -> None:
    """Updates MLflow's records if the home was moved or copied, because MLflow stores absolute addresses of artifacts.

    Addresses outside a folder `.mlflow/artifacts` are left as they are.
    """
    if not (folder / DATABASE).is_file():
        return
    here = (folder / ARTIFACTS).as_uri()
    with closing(sqlite3.connect(folder / DATABASE, timeout=20)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'model_versions'").fetchone():
            return
        locations = connection.execute(
            "SELECT DISTINCT artifact_location FROM experiments "
            "WHERE artifact_location LIKE ? AND artifact_location != ?",
            (f"file:///%/{FOLDER}/{ARTIFACTS}", here),
        ).fetchall()
        for (elsewhere,) in locations:
            for table, column in ADDRESSES:
                connection.execute(
                    f"UPDATE {table} SET {column} = :here || substr({column}, length(:elsewhere) + 1) "
                    f"WHERE {column} = :elsewhere OR substr({column}, 1, length(:elsewhere) + 1) = :elsewhere || '/'",
                    {"here": here, "elsewhere": elsewhere},
                )
