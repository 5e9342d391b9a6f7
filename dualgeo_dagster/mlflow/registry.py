"""The registered model of a profile: versions, the aliases challenger and champion, and the promotion history."""

import getpass
import json
import os
import warnings
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.retries import comes_from_outside

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
TRAIL = "promotion."
ROLLBACK = "rollback: "
SERVING = Path(__file__).parent / "serving.py"


@dataclass(frozen=True)
class Promotion:
    """One entry of the promotion history: new champion, replaced champion, time (UTC), user and reason."""

    version: str
    replaced: str | None
    when: str
    by: str
    reason: str


class Registry:
    """The registered model `dualgeo-<profile>` at one tracking URI."""

    def __init__(self, tracking_uri: str, *, profile: str) -> None:
        import mlflow

        mlflow.set_tracking_uri(tracking_uri)
        self.model = f"dualgeo-{profile}"
        self._client: MlflowClient = mlflow.MlflowClient(tracking_uri=tracking_uri)

    def register(
        self, *, run_id: str, locator: Path, predictions: dict[str, pd.DataFrame], tags: dict[str, str]
    ) -> str:
        """Registers the locator and its benchmark predictions as a new version, the challenger; returns its number.

        If an earlier attempt lost its connection after registration, its untagged version is completed instead.
        """
        version = self._untagged_version(run_id) or self._log_model(run_id, locator, predictions)
        for key, value in tags.items():
            self._client.set_model_version_tag(self.model, version, key, value)
        self._client.set_registered_model_alias(self.model, CHALLENGER, version)
        return version

    def _untagged_version(self, run_id: str) -> str | None:
        found = self._client.search_model_versions(f"name = '{self.model}' and run_id = '{run_id}'")
        return next((str(version.version) for version in found if not version.tags), None)

    def _log_model(self, run_id: str, locator: Path, predictions: dict[str, pd.DataFrame]) -> str:
        import mlflow
        from mlflow.types.schema import ColSpec, Schema

        with mlflow.start_run(run_id=run_id), warnings.catch_warnings(), TemporaryDirectory() as folder:
            warnings.filterwarnings("ignore", message=".*input example")
            for name, frame in predictions.items():
                frame.to_parquet(Path(folder, f"{name}.parquet"), index=False)
            logged = mlflow.pyfunc.log_model(
                name=self.model,
                python_model=str(SERVING),
                artifacts={
                    "locator": str(locator),
                    **{f"predictions_{name}": str(Path(folder, f"{name}.parquet")) for name in predictions},
                },
                signature=mlflow.models.ModelSignature(inputs=Schema([ColSpec("string", "photo")])),
                pip_requirements=[],  # the model needs an installed DualGeo: serve it with --env-manager local
                registered_model_name=self.model,
            )
        return str(logged.registered_model_version)

    def version_of(self, alias: str) -> str | None:
        """The version of an alias; None if it is not set."""
        if not self._client.search_registered_models(filter_string=f"name = '{self.model}'"):
            return None
        aliases: dict[str, int | str] = self._client.get_registered_model(self.model).aliases
        return str(aliases[alias]) if alias in aliases else None

    def predictions_of(self, version: str, benchmark: str) -> pd.DataFrame:
        """The predictions on a benchmark stored with a version. Raises InputError if the version has none."""
        import mlflow

        uri = f"models:/{self.model}/{version}/artifacts/{benchmark}.parquet"
        try:
            return pd.read_parquet(mlflow.artifacts.download_artifacts(artifact_uri=uri))
        except (mlflow.exceptions.MlflowException, OSError) as error:
            if comes_from_outside(error):
                raise
            raise InputError(
                f"version {version} of {self.model} has no predictions on {benchmark}: "
                f"it was not evaluated on it ({error})"
            ) from None

    def promote(self, version: str, *, reason: str) -> Promotion:
        """Makes `version` the champion and adds an entry to the promotion history.

        Raises InputError if the version does not exist or is already the champion.
        """
        import mlflow

        try:
            self._client.get_model_version(self.model, version)
        except mlflow.exceptions.MlflowException as error:
            if comes_from_outside(error):
                raise
            raise InputError(
                f"{self.model} has no version {version}: run `dualgeo versions` for the list of versions"
            ) from None
        champion = self.version_of(CHAMPION)
        if champion == version:
            raise InputError(f"version {version} of {self.model} is already the champion")
        promotion = Promotion(
            version=version,
            replaced=champion,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            by=_user(),
            reason=reason,
        )
        # The history entry is written first: a process killed between the two calls leaves an entry without effect,
        # but never a champion without an entry.
        self._client.set_registered_model_tag(
            self.model, f"{TRAIL}{len(self.trail()):06d}", json.dumps(asdict(promotion))
        )
        self._client.set_registered_model_alias(self.model, CHAMPION, version)
        return promotion

    def rollback(self, *, reason: str) -> Promotion:
        """Restores the previous champion; a second call restores the one before it.

        Raises InputError if there is no previous champion.
        """
        champion = self.version_of(CHAMPION)
        for promotion in reversed(self.trail()):
            forward = promotion.version == champion and not promotion.reason.startswith(ROLLBACK)
            if forward and promotion.replaced not in (None, champion):
                return self.promote(promotion.replaced, reason=f"{ROLLBACK}{reason}")
        raise InputError(
            f"{self.model}: champion {champion or 'none'} has no predecessor, so there is nothing to roll back to; "
            "use `dualgeo promote` to choose a version"
        )

    def trail(self) -> list[Promotion]:
        """All promotions, oldest first."""
        if not self._client.search_registered_models(filter_string=f"name = '{self.model}'"):
            return []
        tags: dict[str, str] = self._client.get_registered_model(self.model).tags
        return [Promotion(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(TRAIL)]

    def versions(self) -> list[str]:
        """All versions, newest first."""
        found = self._client.search_model_versions(f"name = '{self.model}'")
        return sorted((str(version.version) for version in found), key=int, reverse=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, the user may have an id without a name
        return f"uid {os.getuid()}"
