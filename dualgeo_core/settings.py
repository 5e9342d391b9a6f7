"""Profiles, their default values, and the environment variables that select a profile.

Defaults are defined here only. They follow the paper (arXiv 2604.25533) unless the field's description states
otherwise. A profile, `profiles/<name>.yaml`, lists only the settings that differ from the defaults.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Representation = Literal["encoder", "mask_only", "image_only", "concatenation", "cross_attention"]
PROFILE_NAME = r"^[A-Za-z][A-Za-z0-9_]*$"
ProfileMethod = Literal["rank1", "dbscan", "hdbscan", "posterior"]
RefineMethod = Literal["rank1", "dbscan", "hdbscan", "posterior", "album"]  # albums come with a command


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ViewSettings(Section):
    """Settings from which one view of a photo is computed."""

    @property
    def fingerprint(self) -> str:
        """A hash of the settings that change the view; the batch size does not."""
        return fingerprint(self.model_dump(mode="json", exclude={"batch_size"}))


class PhotoSource(Section):
    """A photo set under `data/`, or one part of its seeded split by photographer."""

    photo_set: str = Field(description="Folder of the photo set under data/.")
    part: Literal["all", "gallery", "queries"] = Field(
        "all", description="Part of the split by photographer; all: the whole set."
    )
    query_share: Share = Field(0.3, description="Share of photographers whose photos become queries in a split.")


class PhotoSettings(Section):
    gallery: PhotoSource = Field(description="Geotagged photos to search and to train on.")
    benchmarks: dict[str, PhotoSource] = Field(description="Query photos with known positions, by benchmark name.")

    @model_validator(mode="after")
    def _queries_are_not_the_gallery(self) -> Self:
        for name, source in self.benchmarks.items():
            if name == "gallery":
                raise ValueError("photos.benchmarks: the name gallery is reserved; rename this benchmark")
            if source.photo_set != self.gallery.photo_set:
                continue
            parts = {source.part, self.gallery.part}
            if parts != {"gallery", "queries"} or source.query_share != self.gallery.query_share:
                raise ValueError(
                    f"photos.benchmarks.{name} shares photographers with the gallery; set part: queries there, "
                    "part: gallery for the gallery, and the same query_share for both"
                )
        return self


class IngestSettings(Section):
    max_quarantine_share: Share = Field(0.05, description="Largest share of unusable photos in an accepted set.")


class EarthSettings(Section):
    """Settings of the synthetic Earth. The gallery and its query sets must use the same values."""

    seed: int = Field(7, description="Random seed for the choice of countries, cities and streets.")
    countries: Positive = Field(27, description="Number of real countries, sampled by population.")
    cities: Positive = Field(3, description="Real cities per country.")
    cells: Positive = Field(4, description="Streets per city, more than 1 km apart.")
    image_size: Positive = Field(160, description="Pixels per side of a photo.")


class SegmenterSettings(ViewSettings):
    kind: Literal["segformer", "codebook"] = "segformer"
    name: str = Field(
        "nvidia/segformer-b5-finetuned-ade-640-640", description="Hub name or folder of a SegFormer checkpoint."
    )
    revision: str | None = Field(None, description="Commit of the hub repository; None: the latest.")
    image_size: Positive = Field(640, description="Side of the segmenter's square input in pixels.")
    mask_size: Positive = Field(128, description="Side of the stored label map in pixels.")
    batch_size: Positive = 8
    codebook_classes: int = Field(48, ge=2, le=255, description="Number of k-means clusters (codebook only).")
    codebook_photos: Positive = Field(2000, description="Number of gallery photos for fitting the codebook.")
    codebook_seed: int = Field(0, description="Random seed for the codebook's photos and k-means.")


class EncoderSettings(ViewSettings):
    name: str = Field(
        "openai/clip-vit-large-patch14",
        description="Hub name or folder of a transformers vision model, or efficientnet-lite0 (offline).",
    )
    revision: str | None = Field(None, description="Commit of the hub repository; None: the latest.")
    image_size: Positive = Field(224, description="Side of the encoder's square input in pixels.")
    token_grid: Positive = Field(4, description="Side of the token grid after average pooling.")
    batch_size: Positive = 32


class ModelSettings(Section):
    variants: tuple[Representation, ...] = Field(
        ("cross_attention",), description="Representations to train and compare; `encoder` needs no training."
    )
    main: Representation = Field("cross_attention", description="Representation used for answers; one of `variants`.")
    width: Positive = Field(512, description="Width of the tokens and of the joint embedding space.")
    heads: Positive = 8
    layers: Positive = Field(1, description="Number of bidirectional cross-attention layers.")
    dropout: Share = 0.1
    label_grid: int = Field(
        32, gt=0, multiple_of=8, description="Side of the model's label-map input (nearest-neighbour resized)."
    )
    projection: Literal["equal_earth", "unit_sphere"] = Field(
        "equal_earth", description="Projection of the GPS encoder's input."
    )
    fourier_sigmas: tuple[float, ...] = Field((1.0, 16.0, 256.0), description="Scales of the random Fourier features.")
    gps_hidden: Positive = Field(1024, description="Width of the GPS encoder's hidden layers.")
    gps_weights: Literal["random", "geoclip"] = Field(
        "random", description="Initial weights of the GPS encoder; geoclip: those of the PyPI package geoclip."
    )
    whitening: Share = Field(
        0.5,
        description="Strength of whitening per view before retrieval: 0 = plain cosine, 1 = full whitening.",
    )


class TrainingSettings(Section):
    epochs: Positive = 10
    batch_size: Positive = 256
    learning_rate: float = Field(3e-5, gt=0, description="Peak learning rate (AdamW).")
    weight_decay: float = Field(1e-6, ge=0)
    warmup_share: Share = Field(0.05, description="Share of steps with linear learning-rate warm-up.")
    mask_loss_weight: float = Field(1.0, ge=0, description="Weight of the mask-GPS InfoNCE loss; image-GPS has 1.")
    gps_queue: int = Field(4096, ge=0, description="Number of extra GPS negatives kept from earlier steps.")
    soft_target_km: float = Field(
        0.0, ge=0, description="Distance in km within which photos share their target; 0 = hard targets."
    )
    validation_share: Share = Field(
        0.1, description="Share of gallery photographers held out for choosing the checkpoint."
    )
    validation_seed: int = Field(
        0, description="Random seed for the held-out photographers; the refiner is fitted on them."
    )
    patience: Positive = Field(3, description="Epochs without better validation retrieval before training stops early.")
    precision: Literal["no", "fp16", "bf16"] = "no"
    processes: Positive = Field(1, description="Number of training processes, e.g. one per GPU.")
    recompute: bool = Field(
        False, description="Encode augmented photos in every step instead of reading stored features; slow."
    )
    checkpoint_minutes: float = Field(10.0, gt=0, description="Largest time between checkpoints in minutes.")
    seed: int = Field(0, ge=0, description="Random seed for initial weights, data order and dropout.")


class RetrievalSettings(Section):
    index: str = Field("Flat", description="FAISS factory string, e.g. Flat, HNSW32, IVF1024,SQ8.")
    probes: Positive = Field(32, description="IVF lists (nprobe) or HNSW candidates (efSearch) per search.")
    candidates: Positive = Field(20, description="Gallery photos retrieved per query.")
    hubness_neighbours: int = Field(0, ge=0, description="Neighbours for the hubness correction (CSLS); 0 = off.")
    near_duplicate_similarity: float = Field(
        0.985,
        gt=0,
        le=1,
        description="Encoder cosine from which a gallery photo is a near-duplicate of the query and is excluded.",
    )


class LmmSettings(Section):
    """Settings of the large multimodal model (LMM), called through LiteLLM.

    It is off if both `model` and `answers_file` are None. Set API keys in the provider's own environment variables.
    """

    model: str | None = Field(None, description="LiteLLM model name, e.g. gemini/gemini-2.0-flash or ollama/llava.")
    fallbacks: tuple[str, ...] = Field((), description="LiteLLM models to call if the first one keeps failing.")
    api_base: str | None = Field(None, description="Base URL of a local OpenAI-compatible server.")
    answers_file: str | None = Field(None, description="CSV of recorded answers to replay instead of calling a model.")
    samples: Positive = Field(
        1, description="Answers requested per photo; more than 1 is useful only at a temperature > 0."
    )
    temperature: float = Field(0.0, ge=0)
    max_tokens: Positive = 400
    image_size: int = Field(768, gt=0, le=768, description="Longest side of the sent photo in pixels.")
    concurrency: Positive = Field(4, description="Requests in flight at the same time.")
    timeout_s: float = Field(60.0, gt=0, description="Time limit of one request in seconds.")
    retries: int = Field(3, ge=0, description="Retries after HTTP 429 or 5xx, a timeout or a lost connection.")
    backoff_s: float = Field(
        1.0, gt=0, description="First wait before a retry in seconds, doubled each time; Retry-After overrides it."
    )
    max_cost_usd: float = Field(5.0, ge=0, description="Cost limit in USD; the remaining photos get no answer.")

    @property
    def enabled(self) -> bool:
        """Whether the profile requests or replays answers."""
        return self.model is not None or self.answers_file is not None


class RefinementSettings(Section):
    method: ProfileMethod = "posterior"
    params_file: str | None = Field(
        None, description="File of a fitted refiner; None: fit one, or use the shipped one if there is too little data."
    )
    cluster_radius_km: float = Field(25.0, gt=0, description="HDBSCAN's cluster_selection_epsilon in km.")
    dbscan_radius_km: float = Field(50.0, gt=0, description="Radius of the paper's DBSCAN in km, for comparison.")
    max_risk: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Largest share of answers more than 25 km off. Less confident ones are withheld; None: no limit.",
    )


class EvaluationSettings(Section):
    bootstrap_samples: Positive = Field(1000, description="Bootstrap resamples of photographers.")
    seed: int = 0


class Profile(Section):
    """All settings of one profile."""

    name: str = Field(
        pattern=PROFILE_NAME,
        description="Letters, digits and _; used in the names of artifacts, runs and models.",
    )
    device: str | None = Field(None, description="torch device; None: the GPU if available, otherwise the CPU.")
    threads: Positive = Field(2, description="CPU threads for torch.")
    photos: PhotoSettings
    segmenter: SegmenterSettings = SegmenterSettings()
    encoder: EncoderSettings = EncoderSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    refinement: RefinementSettings = RefinementSettings()
    lmm: LmmSettings = LmmSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    orchestration: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the package that runs the pipeline; that package validates them."
    )

    @model_validator(mode="after")
    def _what_answers_is_compared(self) -> Self:
        if self.model.main not in self.model.variants:
            raise ValueError(
                f"model.main is {self.model.main}, which is not in model.variants; add it there or choose one of them"
            )
        return self


class Environment(BaseSettings):
    """The environment variables DUALGEO_PROFILE and DUALGEO_HOME."""

    model_config = SettingsConfigDict(env_prefix="DUALGEO_", extra="ignore")

    profile: str = Field("demo", description="Name of a profile under profiles/, or path of a YAML file.")
    home: Path = Field(
        Path(__file__).parent.parent, description="Folder that contains profiles/, data/ and artifacts/."
    )


class Settings(BaseModel):
    """A profile, and the folders of its data and artifacts."""

    profile: Profile
    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts" / self.profile.name

    def with_training(self, overrides: dict[str, Any]) -> "Settings":
        """A copy with other training settings.

        Raises InputError if a name is unknown or a value is out of range; the message names each one.
        """
        training = {**self.profile.training.model_dump(), **overrides}
        try:
            profile = self.profile.model_copy(update={"training": TrainingSettings(**training)})
        except ValidationError as error:
            raise InputError(f"training settings of this run: {faults(error)}") from None
        return Settings(profile=profile, home=self.home)


def load_profile(path: Path) -> Profile:
    """The profile in a YAML file.

    Raises InputError if the file is missing or invalid; the message names the file and every invalid key.
    """
    try:
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return Profile(**{"name": path.stem, **content})
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise InputError(f"profile {path} does not exist; available profiles: {names or 'none'}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {faults(error)}") from None


def faults(error: ValidationError) -> str:
    """One line with every invalid key and its error."""
    named = ((".".join(map(str, fault["loc"])) or "profile", fault["msg"]) for fault in error.errors())
    return "; ".join(f"{key}: {fault}" for key, fault in named)


def load_settings(profile: str | None = None, home: Path | None = None) -> Settings:
    """The settings of a profile, given by name or path. Missing arguments are read from the environment."""
    environment = Environment()
    home = (home or environment.home).resolve()
    name = environment.profile if profile is None else profile
    if name.endswith((".yaml", ".yml")):
        return Settings(profile=load_profile(Path(name)), home=home)
    if not re.fullmatch(PROFILE_NAME, name):
        raise InputError(f"{name!r} is not a profile's name: take letters, digits and _, beginning with a letter")
    return Settings(profile=load_profile(home / "profiles" / f"{name}.yaml"), home=home)


def checkpoint(name: str) -> str:
    """The path of a checkpoint folder, relative to the working directory or DUALGEO_HOME; otherwise the hub name."""
    for folder in (Path(name), Environment().home / name):
        if folder.is_dir():
            return str(folder)
    return name
