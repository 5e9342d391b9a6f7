"""The folders of one profile."""

from dataclasses import dataclass
from pathlib import Path

from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.settings import PhotoSource, Profile, Settings

GALLERY = "gallery"


@dataclass(frozen=True)
class Workspace:
    """Photo sets are under `data/`, what derives from them under `artifacts/<profile>/`."""

    settings: Settings

    @property
    def profile(self) -> Profile:
        return self.settings.profile

    def source(self, photos_name: str) -> PhotoSource:
        """The photo source called `gallery`, or of the benchmark of that name."""
        photos = self.profile.photos
        return photos.gallery if photos_name == GALLERY else photos.benchmarks[photos_name]

    def photos(self, photos_name: str) -> Photos:
        """The photos called `gallery`, or those of the benchmark of that name."""
        return open_photos(self.source(photos_name), data=self.settings.data)

    def folder(self, kind: str, name: str = "") -> Path:
        """The folder of an artifact: its kind, and the photo set, benchmark or representation that it is of."""
        return self.settings.artifacts / kind / name

    @property
    def locator(self) -> Path:
        """The folder that holds all it takes to locate photos."""
        return self.folder("locator")

    @property
    def lmm_replies(self) -> Path:
        """The multimodal model's replies, kept so that a question is asked once."""
        return self.folder("lmm_replies")

    @property
    def report(self) -> Path:
        """The folder of the last evaluation's scores and curves, small enough for git."""
        return self.settings.home / "reports" / self.profile.name
