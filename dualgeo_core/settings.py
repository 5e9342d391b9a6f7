"""Profiles: the only place where defaults live, and the only place that reads the environment.

A default is the paper's value (arXiv 2604.25533) unless its description says otherwise; a profile,
`profiles/<name>.yaml`, says what differs.
"""

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
RefineMethod = Literal["rank1", "dbscan", "hdbscan", "posterior", "album"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ViewSettings(Section):
    """How one view of a photo is made."""

    @property
    def fingerprint(self) -> str:
        """The same for settings that make the same view."""
        return fingerprint(self.model_dump(mode="json", exclude={"batch_size"}))


class PhotoSource(Section):
    """A photo set under `data/`, or the photographers' part of it that a seeded split assigns."""

    photo_set: str = Field(description="Folder under data/ that holds the set.")
    part: Literal["all", "gallery", "queries"] = Field("all", description="Which photographers of the set.")
    query_share: Share = Field(0.3, description="Share of photographers whose photos are queries when a set is split.")


class PhotoSettings(Section):
    gallery: PhotoSource = Field(description="Geotagged photos to search, and to train on.")
    benchmarks: dict[str, PhotoSource] = Field(description="Query photos with known places, by benchmark name.")

    @model_validator(mode="after")
    def _queries_are_not_the_gallery(self) -> Self:
        for name, source in self.benchmarks.items():
            if name == "gallery":
                raise ValueError("a benchmark cannot be called gallery")
            if source.photo_set != self.gallery.photo_set:
                continue
            parts = {source.part, self.gallery.part}
            if parts != {"gallery", "queries"} or source.query_share != self.gallery.query_share:
                raise ValueError(
                    f"benchmark {name} shares photographers with the gallery: take part: queries of the same "
                    "query_share, and part: gallery for the gallery"
                )
        return self


class IngestSettings(Section):
    max_quarantine_share: Share = Field(0.05, description="Share of unusable photos past which a set is refused.")


class EarthSettings(Section):
    """The synthetic Earth; the same values make the same Earth for its gallery and its query sets."""

    seed: int = Field(7, description="Chooses the countries, cities and streets.")
    countries: Positive = Field(27, description="Real countries, drawn by population.")
    cities: Positive = Field(3, description="Real cities per country.")
    cells: Positive = Field(4, description="Streets per city, over 1 km apart.")
    image_size: Positive = Field(160, description="Pixels per side of a photo.")


class SegmenterSettings(ViewSettings):
    kind: Literal["segformer", "codebook"] = "segformer"
    name: str = Field(
        "nvidia/segformer-b5-finetuned-ade-640-640", description="Hub name or folder of a SegFormer checkpoint."
    )
    revision: str | None = Field(None, description="Commit of the hub repository; None takes its newest.")
    image_size: Positive = Field(640, description="Pixels per side of the square the segmenter sees.")
    mask_size: Positive = Field(128, description="Pixels per side of the stored label map.")
    batch_size: Positive = 8
    codebook_classes: int = Field(48, ge=2, le=255, description="k of k-means (codebook only).")
    codebook_photos: Positive = Field(2000, description="Gallery photos the codebook is fitted on.")
    codebook_seed: int = 0


class EncoderSettings(ViewSettings):
    name: str = Field(
        "openai/clip-vit-large-patch14",
        description="Hub name or folder of a transformers vision model, or efficientnet-lite0 (offline).",
    )
    revision: str | None = Field(None, description="Commit of the hub repository; None takes its newest.")
    image_size: Positive = Field(224, description="Pixels per side of the square the encoder sees.")
    token_grid: Positive = Field(4, description="Patch tokens are average-pooled to this many per side.")
    batch_size: Positive = 32


class ModelSettings(Section):
    variants: tuple[Representation, ...] = Field(
        ("cross_attention",), description="Representations to train and compare; `encoder` needs no training."
    )
    main: Representation = Field("cross_attention", description="The representation that answers.")
    width: Positive = Field(512, description="Width of tokens and of the joint embedding space.")
    heads: Positive = 8
    layers: Positive = Field(1, description="Rounds of bidirectional cross-attention.")
    dropout: Share = 0.1
    label_grid: int = Field(
        32, gt=0, multiple_of=8, description="Label maps are read at this many classes per side (nearest)."
    )
    projection: Literal["equal_earth", "unit_sphere"] = Field("equal_earth", description="What the GPS encoder sees.")
    fourier_sigmas: tuple[float, ...] = Field((1.0, 16.0, 256.0), description="Scales of the random Fourier features.")
    gps_hidden: Positive = Field(1024, description="Width of the GPS encoder's hidden layers.")
    gps_weights: Literal["random", "geoclip"] = Field(
        "random", description="First weights of the GPS encoder; geoclip takes those of its PyPI package."
    )
    whitening: Share = Field(
        0.5,
        description="How far each view's spread is evened out for retrieval: 0 leaves cosines, 1 is full whitening.",
    )


class TrainingSettings(Section):
    epochs: Positive = 10
    batch_size: Positive = 256
    learning_rate: float = Field(3e-5, gt=0)
    weight_decay: float = Field(1e-6, ge=0)
    warmup_share: Share = Field(0.05, description="Share of the steps over which the learning rate rises.")
    mask_loss_weight: float = Field(1.0, ge=0, description="Weight of mask-GPS beside image-GPS InfoNCE.")
    gps_queue: int = Field(4096, ge=0, description="Extra GPS negatives kept from earlier steps.")
    soft_target_km: float = Field(0.0, ge=0, description="Photos this near share their target; 0 keeps targets hard.")
    validation_share: Share = Field(
        0.1, description="Share of gallery photographers held out to choose the checkpoint."
    )
    validation_seed: int = Field(0, description="Chooses these photographers; the refiner is fitted on the same.")
    patience: Positive = Field(3, description="Epochs without better validation retrieval before training stops.")
    precision: Literal["no", "fp16", "bf16"] = "no"
    processes: Positive = Field(1, description="Processes that train together, e.g. one per GPU.")
    recompute: bool = Field(
        False, description="Encode augmented photos anew in every step instead of reading cached features; slow."
    )
    checkpoint_minutes: float = Field(10.0, gt=0, description="Longest time of work a kill may cost.")
    seed: int = Field(0, ge=0, description="Of first weights, order of photos and dropout.")


class RetrievalSettings(Section):
    index: str = Field("Flat", description="FAISS factory string, e.g. Flat, HNSW32, IVF1024,SQ8.")
    probes: Positive = Field(32, description="IVF lists, or HNSW candidates, looked at per search.")
    candidates: Positive = Field(20, description="Gallery photos retrieved per query.")
    hubness_neighbours: int = Field(
        0, ge=0, description="Neighbours by which photos that are near to everything are marked down (CSLS); 0 is off."
    )
    near_duplicate_similarity: float = Field(
        0.985, gt=0, le=1, description="Gallery photos whose encoder vector is this near (cosine) are not candidates."
    )


class LmmSettings(Section):
    """The large multimodal model, reached through LiteLLM; off while `model` is None. Keys: the provider's own."""

    model: str | None = Field(None, description="LiteLLM model name, e.g. gemini/gemini-2.0-flash or ollama/llava.")
    fallbacks: tuple[str, ...] = Field((), description="LiteLLM models to ask when the first keeps failing.")
    api_base: str | None = Field(None, description="Address of a local OpenAI-compatible server.")
    answers_file: str | None = Field(None, description="Replay answers from this CSV instead of asking.")
    samples: Positive = Field(
        1, description="Answers asked per photo; more than 1 tell more only at a temperature > 0."
    )
    temperature: float = Field(0.0, ge=0)
    max_tokens: Positive = 400
    image_size: int = Field(768, gt=0, le=768, description="Longest side in pixels of the photo that is sent.")
    concurrency: Positive = 4
    timeout_s: float = Field(60.0, gt=0)
    retries: int = Field(3, ge=0, description="Further tries after 429, 5xx, a time-out or a cut connection.")
    backoff_s: float = Field(1.0, gt=0, description="First wait before a retry, doubled each time; Retry-After wins.")
    max_cost_usd: float = Field(5.0, ge=0, description="Asking stops at this cost; the rest goes on without answers.")

    @property
    def enabled(self) -> bool:
        """Whether answers are asked for or replayed."""
        return self.model is not None or self.answers_file is not None


class RefinementSettings(Section):
    method: RefineMethod = "posterior"
    params_file: str | None = Field(None, description="Fitted refiner to use; None takes the one shipped.")
    cluster_radius_km: float = Field(25.0, gt=0, description="HDBSCAN's cluster_selection_epsilon.")
    dbscan_radius_km: float = Field(50.0, gt=0, description="The paper's DBSCAN radius, to compare with.")
    max_risk: float | None = Field(
        None, gt=0, lt=1, description="Abstain so that at most this share of the answers given is over 25 km off."
    )


class EvaluationSettings(Section):
    bootstrap_samples: Positive = Field(1000, description="Resamples of photographers for the intervals.")
    seed: int = 0


class Profile(Section):
    """Everything one profile settles, each section with the paper's defaults."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", description="Letters, digits and _; names all it makes.")
    device: str | None = Field(None, description="torch device; None takes the GPU where there is one.")
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
        default_factory=dict, description="Settings of the package that runs the pipeline, which checks them."
    )

    @model_validator(mode="after")
    def _what_answers_is_compared(self) -> Self:
        if self.model.main not in self.model.variants:
            raise ValueError(f"model.main is {self.model.main}, which is not among model.variants")
        return self


class Environment(BaseSettings):
    """What the environment may say: DUALGEO_PROFILE and DUALGEO_HOME."""

    model_config = SettingsConfigDict(env_prefix="DUALGEO_", extra="ignore")

    profile: str = Field("demo", description="A name under profiles/, or a path to a YAML file.")
    home: Path = Field(Path(__file__).parent.parent, description="Folder with profiles/, data/ and artifacts/.")


class Settings(BaseModel):
    """A profile and the folders it works in."""

    profile: Profile
    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts" / self.profile.name

    def with_training(self, overrides: dict[str, Any]) -> "Settings":
        """The same but for these training settings; raises InputError naming each that is not one or out of range."""
        training = {**self.profile.training.model_dump(), **overrides}
        try:
            profile = self.profile.model_copy(update={"training": TrainingSettings(**training)})
        except ValidationError as error:
            raise InputError(f"training settings of this run: {faults(error)}") from None
        return Settings(profile=profile, home=self.home)


def load_profile(path: Path) -> Profile:
    """The profile of a YAML file; raises InputError naming the file and every key at fault."""
    try:
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return Profile(**{"name": path.stem, **content})
    except FileNotFoundError:
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise InputError(f"there is no profile {path}; take one of: {names or 'none here'}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {faults(error)}") from None


def faults(error: ValidationError) -> str:
    """Every key at fault and what is wrong with it, in one line."""
    named = ((".".join(map(str, fault["loc"])) or "profile", fault["msg"]) for fault in error.errors())
    return "; ".join(f"{key}: {fault}" for key, fault in named)


def load_settings(profile: str | None = None, home: Path | None = None) -> Settings:
    """Settings of a profile by name or path; what is not given comes from the environment."""
    environment = Environment()
    home = (home or environment.home).resolve()
    name = profile or environment.profile
    path = Path(name) if name.endswith((".yaml", ".yml")) else home / "profiles" / f"{name}.yaml"
    return Settings(profile=load_profile(path), home=home)


def checkpoint(name: str) -> str:
    """A folder of that name here or at home (`models/earth-segformer`), else the name itself: one of the model hub."""
    for folder in (Path(name), Environment().home / name):
        if folder.is_dir():
            return str(folder)
    return name
