"""The registered model of a profile: versions, the aliases challenger, champion and best, and the promotion history."""

import json
import uuid
import warnings
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dualgeo_core.base.errors import InputError
from dualgeo_dagster.retries import comes_from_outside
from dualgeo_dagster.settings import current_user

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER, BEST = "champion", "challenger", "best"
HIDDEN = "mlflow.dualgeo."  # MLflow's pages do not show tags that begin with "mlflow."
TRAIL = "promotion."
UNFINISHED = f"{HIDDEN}unfinished"  # the tag with the last promotion, until its locator is in service
DESCRIPTION_CHARACTERS = 5000  # MLflow's columns hold no more
PROMOTION = "\n\n## Promotion\n\n"  # the section of a version's description
ROLLBACK = "rollback: "
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


@dataclass(frozen=True)
class Promotion:
    """One entry of the promotion history: new champion, replaced champion, time (UTC), user and reason."""

    version: str
    replaced: str | None
    when: str
    by: str
    reason: str

    @property
    def sentence(self) -> str:
        """The promotion in words."""
        place = f"replaced version {self.replaced}" if self.replaced else "was the first champion"
        when = datetime.fromisoformat(self.when)
        return f"Version {self.version} {place} on {when:%Y-%m-%d at %H:%M} UTC, by {self.by}. Reason: {self.reason}."


class Registry:
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
        self._client.update_model_version(self.model, version, description=_fitting(text))
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

    def promote(self, version: str, *, reason: str) -> Promotion:
        """Makes `version` the champion and adds an entry to the promotion history.

        Raises InputError if the version is already the champion, or as `require`.
        """
        self.require(version)
        champion = self.version_of(CHAMPION)
        if champion == version:
            raise InputError(f"version {version} of {self.model} is already the champion")
        now = datetime.now(UTC)
        promotion = Promotion(
            version=version,
            replaced=champion,
            when=now.isoformat(timespec="seconds"),
            by=current_user(),
            reason=reason,
        )
        # The history entry is written first: a process killed between the two calls leaves an entry without effect,
        # but never a champion without an entry. The key is unique, so that promotions at the same time are all kept.
        key = f"{HIDDEN}{TRAIL}{now:%Y%m%dT%H%M%S.%f}.{uuid.uuid4().hex[:8]}"
        for tag in (key, UNFINISHED):
            self._client.set_registered_model_tag(self.model, tag, json.dumps(asdict(promotion)))
        self._make_champion(promotion)
        return promotion

    def finish_promotion(self) -> None:
        """Notes that the champion's locator is in service: a repeated rollback then goes back one more version."""
        if UNFINISHED in self._tags():
            self._client.delete_registered_model_tag(self.model, UNFINISHED)

    def _make_champion(self, promotion: Promotion) -> None:
        self._client.set_registered_model_alias(self.model, CHAMPION, promotion.version)
        self._describe(promotion)

    def mark_best(self, version: str) -> None:
        """Marks the champion with the best score so far, which later challengers are compared with."""
        self._client.set_registered_model_alias(self.model, BEST, version)

    def _describe(self, promotion: Promotion) -> None:
        """Writes a promotion as a sentence on the version's page, and all promotions on the model's page."""
        kept, _, _ = self._description_of(promotion.version).partition(PROMOTION)
        text = f"{kept}{PROMOTION}{promotion.sentence}"
        self._client.update_model_version(self.model, promotion.version, description=_fitting(text))
        written: list[Promotion] = []
        while written != (trail := self.trail()):  # another promotion at the same time writes this page, too
            newest_first = "\n".join(f"- {entry.sentence}" for entry in reversed(trail))
            text = f"Champions, newest first:\n\n{newest_first}"
            self._client.update_registered_model(self.model, description=_fitting(text))
            written = trail

    def _description_of(self, version: str) -> str:
        return self._client.get_model_version(self.model, version).description or ""

    def rollback(self, *, reason: str) -> Promotion:
        """Restores the previous champion; a second call restores the one before it.

        A call after a rollback that failed before `finish_promotion` completes that rollback, and returns it. Raises
        InputError if there is no previous champion.
        """
        unfinished = self._unfinished_rollback()
        if unfinished is not None:
            self._make_champion(unfinished)
            return unfinished
        previous = self._previous_champion()
        if previous is None:
            raise InputError(
                f"{self.model}: champion {self.version_of(CHAMPION) or 'none'} has no predecessor, so there is nothing "
                "to roll back to; use `dualgeo promote` to choose a version"
            )
        return self.promote(previous, reason=f"{ROLLBACK}{reason}")

    def _unfinished_rollback(self) -> Promotion | None:
        noted = self._tags().get(UNFINISHED)
        if noted is None:
            return None
        last = Promotion(**json.loads(noted))
        concerns_champion = self.version_of(CHAMPION) in (last.version, last.replaced)
        return last if concerns_champion and last.reason.startswith(ROLLBACK) else None

    def _previous_champion(self) -> str | None:
        champion = self.version_of(CHAMPION)
        for promotion in reversed(self.trail()):
            forward = promotion.version == champion and not promotion.reason.startswith(ROLLBACK)
            if forward and promotion.replaced not in (None, champion):
                return promotion.replaced
        return None

    def rollback_of(self, version: str) -> Promotion | None:
        """The rollback that replaced this version, unless the version was promoted again since; None if none did."""
        last = next((entry for entry in reversed(self.trail()) if version in (entry.version, entry.replaced)), None)
        return last if last and last.replaced == version and last.reason.startswith(ROLLBACK) else None

    def trail(self) -> list[Promotion]:
        """All promotions, oldest first."""
        entries = {key.removeprefix(HIDDEN): entry for key, entry in self._tags().items()}  # some have no prefix
        return [Promotion(**json.loads(entries[key])) for key in sorted(entries) if key.startswith(TRAIL)]

    def _tags(self) -> dict[str, str]:
        """The tags of the registered model; none if there is no such model."""
        if not self._client.search_registered_models(filter_string=f"name = '{self.model}'"):
            return {}
        return dict(self._client.get_registered_model(self.model).tags)

    def versions(self) -> list[str]:
        """All versions, newest first."""
        return [str(version.version) for version in self._found_versions()]

    def note_of(self, version: str, key: str) -> str:
        """A tag of a version, empty if it is not set."""
        return str(self._client.get_model_version(self.model, version).tags.get(key, ""))

    def note(self, version: str, key: str, text: str) -> None:
        """Sets a tag of a version."""
        self._client.set_model_version_tag(self.model, version, key, text)

    def prune(self, keep: int) -> list[str]:
        """Deletes old versions with their files, and returns their numbers.

        The newest `keep` versions, the champion, the challenger, the best champion so far and the version that a
        rollback restores are kept.
        """
        in_use = {*map(self.version_of, (CHAMPION, CHALLENGER, BEST)), self._previous_champion()}
        deleted = [version for version in self.versions()[keep:] if version not in in_use]
        for version in deleted:
            self._delete(version)
        return deleted

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


def _fitting(text: str) -> str:
    """The whole lines of `text` that MLflow's databases can store, or its beginning if the first line is too long."""
    if len(text) <= DESCRIPTION_CHARACTERS:
        return text
    end = text.rfind("\n", 0, DESCRIPTION_CHARACTERS)
    return text[: end if end > 0 else DESCRIPTION_CHARACTERS]
