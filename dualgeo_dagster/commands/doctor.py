"""`dualgeo doctor`: what is installed, what each profile has, which servers answer, and what to run next."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import PlacesSettings, Settings, load_answering_settings, load_settings
from dualgeo_dagster.mlflow.store import DATABASE, FOLDER, require_database, without_password
from dualgeo_dagster.settings import TrackingEnvironment

PACKAGES = ("dualgeo", "torch", "transformers", "dagster", "mlflow", "dvc", "great-expectations", "litellm")
FAISS = ("faiss-cpu", "faiss-gpu")
ANSWER_S = 2.0


def findings(profile: str | None) -> Iterator[tuple[str, str]]:
    """Pairs of a subject and what was found about it. Raises InputError if the profile is invalid."""
    settings = load_settings(profile)
    installed = {name: _version(name) for name in (*PACKAGES, *FAISS)}
    yield "Packages", ", ".join(f"{name} {number}" for name, number in installed.items() if number)
    if not any(installed[name] for name in FAISS):
        yield "FAISS", "missing: run `make setup`, or install dualgeo[cpu] or dualgeo[gpu]"
    yield "Device", _device(settings)
    yield "Home", str(settings.home)
    yield "Profiles", "; ".join(_profiles(settings.home))
    yield f"Profile {settings.profile.name}", _state(settings)
    yield "MLflow", _mlflow(settings.home)
    yield "Dagster's page", _answers(TrackingEnvironment().dagster_ui, start="run `make ui`")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(settings: Settings) -> str:
    from dualgeo_core.pipeline.opening import profile_device

    return str(profile_device(settings.profile))


def _profiles(home: Path) -> Iterator[str]:
    for file in sorted((home / "profiles").glob("*.yaml")):
        try:
            settings = load_answering_settings(file.stem, home=home)
        except InputError as error:
            yield f"{file.stem}: {error}"
            continue
        if isinstance(settings, PlacesSettings):
            yield f"{file.stem} needs no photos and no training"
            continue
        missing = sorted({source for source in _photo_sets(settings) if not (settings.data / source).is_dir()})
        photos = f"lacks data/{', data/'.join(missing)}" if missing else "has its photos"
        answers = "answers" if settings.locator_in_service.is_dir() else "has no model yet"
        yield f"{file.stem} {photos} and {answers}"


def _photo_sets(settings: Settings) -> list[str]:
    photos = settings.profile.photos
    return [source.photo_set for source in (photos.gallery, *photos.benchmarks.values())]


def _state(settings: Settings) -> str:
    from dualgeo_core.pipeline.staleness import changes_since_training, stale_artifacts
    from dualgeo_core.pipeline.workspace import Workspace

    workspace = Workspace(settings)
    mend = f"`dualgeo run --profile {settings.profile.name}`"
    stale = stale_artifacts(workspace)
    if stale:
        shown = ", ".join(stale[:5]) + (f" and {len(stale) - 5} more" if len(stale) > 5 else "")
        return f"missing or stale: {shown}. Run {mend}"
    changes = changes_since_training(workspace)
    if changes:
        models = ", ".join(f"model {variant} ({change})" for variant, change in changes.items())
        return f"in use, but trained before a change: {models}. {mend} trains again"
    return "every artifact is current"


def _mlflow(home: Path) -> str:
    server = TrackingEnvironment().tracking_uri
    if server and server.startswith("http"):
        return _answers(without_password(server), start="start the server, or unset MLFLOW_TRACKING_URI")
    database = home / FOLDER / DATABASE
    if not database.exists():
        return f"{database} does not exist yet; the first run makes it"
    try:
        require_database(home)
    except InputError as error:
        return str(error)
    return f"{database} can be read"


def _answers(address: str, *, start: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_S):
            return f"{address} answers"
    except urllib.error.HTTPError:
        return f"{address} answers"
    except OSError:
        return f"{address} does not answer: {start}"
