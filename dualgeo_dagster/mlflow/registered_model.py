"""The versions of a profile's registered model: registration, aliases, files, tags, deletion."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.retries import comes_from_outside

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER, BEST = "champion", "challenger", "best"  # aliases
DESCRIPTION_CHARACTERS = 5000  # MLflow's columns hold no more
PROMOTION = "\n\n## Promotion\n\n"  # the section of a version's description that a promotion writes
PRUNED = "pruned"  # the tag of a version whose files are being deleted
SERVING = Path(__file__).parent / "serving.py"
OUTPUTS = {  # the fields of an answer, in MLflow's types
    "photo": "string",
    "status": "string",
    "latitude": "double",
    "longitude": "double",
    "place": "string",
    "radius_50_km": "double",
    "radius_90_km": "double",
    "confidence_25km": "double",
    "model_version": "string",
}


class RegisteredModel:
    """The registered model `dualgeo-<profile>` at one tracking URI."""

    def __init__(self, tracking_uri: str, *, profile: str) -> None:
        import mlflow

        mlflow.set_tracking_uri(tracking_uri)
        self.model = f"dualgeo-{profile}"
        self._tracking_uri = tracking_uri
        self._client: MlflowClient = mlflow.MlflowClient(tracking_uri=tracking_uri)

    def register(
        self,
        *,
        run_id: str,
        locator: Path,
        predictions: "dict[str, pd.DataFrame]",
        tags: dict[str, str],
        description: str,
    ) -> str:
        """Makes a version with this locator and these benchmark predictions the challenger; returns its number.

        `description` (Markdown) is shown on the version's page. `tags` identify the content. A version that has the
        same tags is reused instead of stored again. A version that an earlier attempt registered from the same run,
        before it lost its connection, is completed.
        """
        version = self._existing_version(run_id, tags) or self._log_model(run_id, locator, predictions)
        for key, value in tags.items():
            self._client.set_model_version_tag(self.model, version, key, value)
        _, section, promotion = self._description_of(version).partition(PROMOTION)
        text = f"{description}{section}{promotion}"
        self._client.update_model_version(self.model, version, description=fitting(text))
        self._client.set_registered_model_alias(self.model, CHALLENGER, version)
        return version

    def _existing_version(self, run_id: str, tags: dict[str, str]) -> str | None:
        for version in self._found_versions():
            if PRUNED in version.tags:
                continue
            unfinished = version.run_id == run_id and version.tags.items() <= tags.items()
            if unfinished or version.tags.items() >= tags.items():
                return str(version.version)
        return None

    def _log_model(self, run_id: str, locator: Path, predictions: "dict[str, pd.DataFrame]") -> str:
        import mlflow
        from mlflow.models import ModelSignature
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
                signature=ModelSignature(
                    inputs=Schema([ColSpec("string", "photo")]),
                    outputs=Schema([ColSpec(kind, name, required=name == "status") for name, kind in OUTPUTS.items()]),
                ),
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

    def predictions_of(self, version: str, benchmark: str) -> "pd.DataFrame":
        """The predictions on a benchmark stored with a version. Raises InputError if the version has none."""
        import mlflow
        import pandas as pd

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

    def download_locator(self, version: str, folder: Path) -> Path:
        """Downloads the locator of a version into `folder`; returns its path."""
        import mlflow

        uri = f"models:/{self.model}/{version}/artifacts/locator"
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))

    def require(self, version: str) -> None:
        """Raises InputError if the version does not exist or is half deleted."""
        import mlflow

        try:
            found = self._client.get_model_version(self.model, version)
        except mlflow.exceptions.MlflowException as error:
            if comes_from_outside(error):
                raise
            raise InputError(
                f"{self.model} has no version {version}: run `dualgeo versions` for the list of versions"
            ) from None
        if PRUNED in found.tags:
            raise InputError(f"version {version} of {self.model} was half deleted: choose a version with all its files")

    def versions(self) -> list[str]:
        """All versions, newest first."""
        return [str(version.version) for version in self._found_versions()]

    def note_of(self, version: str, key: str) -> str:
        """A tag of a version, empty if it is not set."""
        return str(self._client.get_model_version(self.model, version).tags.get(key, ""))

    def note(self, version: str, key: str, text: str) -> None:
        """Sets a tag of a version."""
        self._client.set_model_version_tag(self.model, version, key, text)

    def _description_of(self, version: str) -> str:
        return self._client.get_model_version(self.model, version).description or ""

    def _delete(self, version: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # The tag is set first: a killed process leaves a version that is not reused and that the next call deletes.
        self._client.set_model_version_tag(self.model, version, PRUNED, "true")
        source = self._client.get_model_version(self.model, version).source
        assert source is not None, "MLflow keeps the id of the logged model as the source of a version"
        model_id = source.removeprefix("models:/")
        files = self._client.get_logged_model(model_id).artifact_location
        get_artifact_repository(files, tracking_uri=self._tracking_uri).delete_artifacts()
        self._client.delete_model_version(self.model, version)
        self._client.delete_logged_model(model_id)

    def _found_versions(self) -> "list[ModelVersion]":
        """MLflow's records of all versions, newest first."""
        found = self._client.search_model_versions(f"name = '{self.model}'")
        return sorted(found, key=lambda version: int(version.version), reverse=True)


def fitting(text: str) -> str:
    """The whole lines of `text` that MLflow's databases can store, or its beginning if the first line is too long."""
    if len(text) <= DESCRIPTION_CHARACTERS:
        return text
    end = text.rfind("\n", 0, DESCRIPTION_CHARACTERS)
    return text[: end if end > 0 else DESCRIPTION_CHARACTERS]
