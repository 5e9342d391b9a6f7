"""The paths of a profile's photo sets and artifacts."""

from dataclasses import dataclass
from pathlib import Path

from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.settings import PhotoSource, Profile, Settings

GALLERY = "gallery"
ONE_PER_PROFILE = ("segmenter", "refiner", "locator", "champion")  # kinds of artifacts that need no name


@dataclass(frozen=True)
class Workspace:
    """The folders of one profile: photo sets under `data/`, derived artifacts under `artifacts/<profile>/`."""

    settings: Settings

    @property
    def profile(self) -> Profile:
        return self.settings.profile

    def source(self, photos_name: str) -> PhotoSource:
        """The photo source of `gallery` or of a benchmark, by name."""
        photos = self.profile.photos
        return photos.gallery if photos_name == GALLERY else photos.benchmarks[photos_name]

    def photos(self, photos_name: str) -> Photos:
        """The photos of `gallery` or of a benchmark, by name."""
        return open_photos(self.source(photos_name), data=self.settings.data)

    def folder(self, kind: str, name: str = "") -> Path:
        """The folder of an artifact; `name` is its photo set, benchmark or representation, if a profile has several."""
        return self.settings.artifacts / kind / name

    @property
    def locator(self) -> Path:
        """The folder with everything needed to locate photos."""
        return self.settings.locator

    @property
    def lmm_replies(self) -> Path:
        """The stored replies of the multimodal model; each question is sent once."""
        return self.settings.lmm_replies

    @property
    def report(self) -> Path:
        """The folder of the last evaluation's scores and curves; small enough for git."""
        return self.settings.home / "reports" / self.profile.name
