"""Settings of photo sets: the gallery, the benchmarks, the ingest, and the synthetic Earth."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dualgeo_core.settings.base import InnerShare, Positive, Section, Seed, Share

LONGEST_NAME = 100  # names become names of folders, which have at most 255 bytes


def _benchmark_name(name: str) -> str:
    """The name, if it can name a folder, a partition and a metric."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"{name!r} is not a benchmark's name; use at most {LONGEST_NAME} letters, digits, _ and -, "
            "beginning with a letter or digit"
        )
    if name.casefold() == "gallery":
        raise ValueError(f"the name {name} is reserved; rename this benchmark")
    return name


def _folder_under_data(name: str) -> str:
    """The path, if it is relative, stays under `data/` and is the only spelling of its folder."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or str(path) != name or not name.isprintable():
        raise ValueError(f"{name!r} is not a folder under data/; name it relative to data/, without . and ..")
    return name


BenchmarkName = Annotated[str, AfterValidator(_benchmark_name)]
FolderUnderData = Annotated[str, AfterValidator(_folder_under_data)]


class PhotoSource(Section):
    """A photo set under `data/`, or one part of its seeded split by photographer."""

    photo_set: FolderUnderData = Field(description="Folder of the photo set under data/.")
    part: Literal["all", "gallery", "queries"] = Field(
        "all", description="Part of the split by photographer; all: the whole set."
    )
    query_share: InnerShare = Field(0.3, description="Share of photographers whose photos become queries in a split.")


class PhotoSettings(Section):
    gallery: PhotoSource = Field(description="Geotagged photos to search and to train on.")
    benchmarks: dict[BenchmarkName, PhotoSource] = Field(
        description="Query photos with known positions, by benchmark name."
    )

    @model_validator(mode="after")
    def _benchmarks_have_folders_of_their_own(self) -> Self:
        if not self.benchmarks:
            raise ValueError("benchmarks is empty; add at least one benchmark with its photo_set")
        names: dict[str, str] = {}
        for name in self.benchmarks:
            other = names.setdefault(name.casefold(), name)
            if other != name:
                raise ValueError(f"benchmarks {other} and {name} differ only in case; rename one of them")
        return self

    @model_validator(mode="after")
    def _queries_are_not_the_gallery(self) -> Self:
        for name, source in self.benchmarks.items():
            if source.photo_set != self.gallery.photo_set:
                continue
            parts = {source.part, self.gallery.part}
            if parts != {"gallery", "queries"} or source.query_share != self.gallery.query_share:
                raise ValueError(
                    f"benchmarks.{name} shares photographers with the gallery; set part: queries there, "
                    "part: gallery for the gallery, and the same query_share for both"
                )
        return self


class IngestSettings(Section):
    max_quarantine_share: Share = Field(0.05, description="Largest share of unusable photos in an accepted set.")


EarthPart = Literal["gallery", "same_weather", "other_weather", "night", "other_season", "mixed"]


class EarthSettings(Section):
    """Settings of the synthetic Earth. The gallery and its query sets must use the same values."""

    seed: Seed = Field(7, description="Random seed for the choice of countries, cities and streets.")
    countries: Positive = Field(27, description="Number of real countries, sampled by population.")
    cities: Positive = Field(3, description="Real cities per country.")
    cells: Positive = Field(4, description="Streets per city, more than 1 km apart.")
    image_size: Positive = Field(160, description="Pixels per side of a photo.")
