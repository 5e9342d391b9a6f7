"""Where each artifact of a profile lives, and how to open it with its fingerprint checked."""

from dataclasses import dataclass
from pathlib import Path

from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.settings import PhotoSource, Profile, Settings

GALLERY = "gallery"
REFINER_FILE = "refiner.json"


@dataclass(frozen=True)
class Workspace:
    """The folders of one profile: photo sets under `data/`, what derives from them under `artifacts/<profile>/`."""

    settings: Settings

    @property
    def profile(self) -> Profile:
        return self.settings.profile

    @property
    def lmm_replies(self) -> Path:
        """The multimodal model's replies, kept so that a question is asked once."""
        return self.settings.artifacts / "lmm_replies"

    @property
    def segmenter(self) -> Path:
        return self.settings.artifacts / "segmenter"

    def source(self, photos_name: str) -> PhotoSource:
        """The photo source called `gallery`, or of the benchmark so called."""
        photos = self.profile.photos
        return photos.gallery if photos_name == GALLERY else photos.benchmarks[photos_name]

    def photos(self, photos_name: str) -> Photos:
        return open_photos(self.source(photos_name), data=self.settings.data)

    def masks(self, photos_name: str) -> Path:
        return self.settings.artifacts / "masks" / photos_name

    def features(self, photos_name: str) -> Path:
        return self.settings.artifacts / "features" / photos_name

    def model(self, representation: str) -> Path:
        return self.settings.artifacts / "models" / representation

    def embeddings(self, representation: str) -> Path:
        return self.settings.artifacts / "embeddings" / representation

    def index(self, representation: str) -> Path:
        return self.settings.artifacts / "index" / representation

    def candidates(self, benchmark: str) -> Path:
        return self._found(benchmark) / "candidates.parquet"

    def clusters(self, benchmark: str) -> Path:
        return self._found(benchmark) / "clusters.parquet"

    def lmm_answers(self, benchmark: str) -> Path:
        return self._found(benchmark) / "lmm_answers.parquet"

    def predictions(self, benchmark: str) -> Path:
        return self._found(benchmark) / "predictions.parquet"

    def scores(self, benchmark: str) -> Path:
        return self._found(benchmark) / "scores.json"

    @property
    def locator(self) -> Path:
        """The folder that holds all it takes to locate photos."""
        return self.settings.artifacts / "locator"

    @property
    def refiner(self) -> Path:
        return self.settings.artifacts / "refiner"

    @property
    def report(self) -> Path:
        """The folder of the last evaluation's scores and curves, small enough for git."""
        return self.settings.home / "reports" / self.profile.name

    def _found(self, benchmark: str) -> Path:
        """The folder of everything found about one benchmark's photos."""
        return self.settings.artifacts / "benchmarks" / benchmark
