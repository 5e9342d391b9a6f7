"""The champion's locator as a folder of the profile, from which `dualgeo locate` answers."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from dualgeo_core.base.artifacts import incomplete_files, read_record
from dualgeo_core.base.files import atomic_folder
from dualgeo_core.settings import Settings
from dualgeo_dagster.mlflow.registry import CHAMPION, Registry

CONTENT_FILE = "content"  # identifies the locator in the folder


def bring_into_service(registry: Registry, settings: Settings) -> None:
    """Makes `settings.champion` the locator of the champion, unless it is already."""
    version = registry.version_of(CHAMPION)
    assert version is not None, "called after a promotion"
    content = registry.note_of(version, "locator")
    if _holds(settings.champion, content):
        return
    settings.artifacts.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=settings.artifacts, prefix=".champion.") as temporary:
        downloaded = registry.download_locator(version, Path(temporary))
        with atomic_folder(settings.champion) as folder:
            shutil.copytree(downloaded, folder, dirs_exist_ok=True, copy_function=shutil.move)
            (folder / CONTENT_FILE).write_text(content, encoding="utf-8")


def _holds(folder: Path, content: str) -> bool:
    """Whether the folder holds this locator, with all its files."""
    noted, record = folder / CONTENT_FILE, read_record(folder)
    if not noted.is_file() or noted.read_text(encoding="utf-8") != content:
        return False
    return record is None or not incomplete_files(folder, record)
