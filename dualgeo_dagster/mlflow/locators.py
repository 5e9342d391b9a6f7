"""Locators of registered versions as folders of the profile, from which `dualgeo locate` and `dualgeo serve` answer."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dualgeo_core.base.artifacts import incomplete_files, read_record
from dualgeo_core.base.files import atomic_folder
from dualgeo_core.base.stamps import stamps_of
from dualgeo_core.settings import Settings

if TYPE_CHECKING:
    from dualgeo_dagster.mlflow.registry import Registry

CONTENT_FILE = "content"  # identifies the locator in the folder


def bring_into_service(registry: "Registry", settings: Settings) -> None:
    """Makes `settings.champion` the locator of the champion, unless it is already. This finishes a promotion."""
    from dualgeo_dagster.mlflow.registered_model import CHAMPION

    version = registry.version_of(CHAMPION)
    assert version is not None, "called after a promotion"
    _fetch(registry, version, settings.champion)
    registry.finish_promotion()


def locator_of_version(settings: Settings, version: str) -> Path:
    """The locator folder of a registered version, downloaded unless it is on this machine.

    Raises InputError if the version does not exist or is half deleted, or if MLflow does not answer.
    """
    from dualgeo_dagster.mlflow.registry import Registry
    from dualgeo_dagster.mlflow.store import outages_as_input_errors, tracking_store
    from dualgeo_dagster.settings import keep_libraries_quiet

    keep_libraries_quiet()
    with outages_as_input_errors():
        registry = Registry(tracking_store(settings.home).tracking_uri, profile=settings.profile.name)
        registry.require(version)
        if _holds(settings.champion, registry.note_of(version, "locator")):
            return settings.champion
        _fetch(registry, version, settings.version(version))
    return settings.version(version)


def forget(settings: Settings, version: str) -> None:
    """Removes the locator folder of a deleted version."""
    shutil.rmtree(settings.version(version), ignore_errors=True)
    stamps_of(settings.version(version)).unlink(missing_ok=True)


def _fetch(registry: "Registry", version: str, folder: Path) -> None:
    """Makes `folder` the locator of the version, unless it is already."""
    content = registry.note_of(version, "locator")
    if _holds(folder, content):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        downloaded = registry.download_locator(version, Path(temporary))
        with atomic_folder(folder) as unfinished:
            shutil.copytree(downloaded, unfinished, dirs_exist_ok=True, copy_function=shutil.move)
            (unfinished / CONTENT_FILE).write_text(content, encoding="utf-8")


def _holds(folder: Path, content: str) -> bool:
    """Whether the folder holds this locator, with all its files."""
    noted, record = folder / CONTENT_FILE, read_record(folder)
    if not noted.is_file() or noted.read_text(encoding="utf-8") != content:
        return False
    return record is None or not incomplete_files(folder, record)
