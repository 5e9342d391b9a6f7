"""A profile: all sections together, and the rules that span sections."""

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from dualgeo_core.settings.base import Positive, Section, matching
from dualgeo_core.settings.cluster import EngineName, RaySettings
from dualgeo_core.settings.photos import LONGEST_NAME, PhotoSettings
from dualgeo_core.settings.places import PlaceSettings
from dualgeo_core.settings.refinement import EvaluationSettings, LmmSettings, RefinementSettings
from dualgeo_core.settings.relighting import RelightingSettings
from dualgeo_core.settings.representation import EncoderSettings, ModelSettings, SegmenterSettings, TrainingSettings
from dualgeo_core.settings.retrieval import RetrievalSettings
from dualgeo_core.settings.serving import ServingSettings

EFFICIENTNET_STRIDE = 32
Device = Annotated[str, matching(r"cpu|mps|(cuda|xpu)(:\d+)?", "use cpu, mps, cuda, cuda:N, xpu or xpu:N")]


def profile_name(name: str) -> str:
    """The name, if it can name a folder, an asset and a model. Raises ValueError if it cannot."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"{name!r} is not a profile's name; use at most {LONGEST_NAME} letters, digits and _, "
            "beginning with a letter"
        )
    return name


class AnsweringProfile(Section):
    """The settings that every profile has with which photos are located."""

    name: Annotated[str, AfterValidator(profile_name)] = Field(
        description="Letters, digits and _; used in the names of artifacts, runs and models."
    )
    device: Device | None = Field(
        None, description="torch device, e.g. cpu, cuda or cuda:1; None: the GPU if available, otherwise the CPU."
    )
    threads: Positive = Field(2, description="CPU threads for torch.")
    encoder: EncoderSettings = EncoderSettings()
    refinement: RefinementSettings = RefinementSettings()
    lmm: LmmSettings = LmmSettings()
    serving: ServingSettings = ServingSettings()


class PlacesProfile(AnsweringProfile):
    """All settings of a profile without gallery and training, whose candidates are places."""

    places: PlaceSettings

    @model_validator(mode="after")
    def _calibration_is_its_own(self) -> Self:
        if self.refinement.params_file is not None:
            raise ValueError(
                "refinement.params_file is not used with places, which have a calibration of their own; leave it out"
            )
        return self


class Profile(AnsweringProfile):
    """All settings of a profile with a gallery."""

    photos: PhotoSettings
    segmenter: SegmenterSettings = SegmenterSettings()
    relighting: RelightingSettings = RelightingSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    engine: EngineName = Field(
        "local",
        description="Where masks, features, relit views and embeddings are computed; ray: on a cluster, on which "
        "the pipeline also trains if `ray.training_nodes` is set.",
    )
    ray: RaySettings = RaySettings()
    orchestration: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the package that runs the pipeline; that package validates them."
    )

    @property
    def answering(self) -> dict[str, Any]:
        """The settings that a trained system's answer to a photo depends on."""
        sections = {"device", "threads", "segmenter", "encoder", "model", "retrieval", "refinement"}
        return {**self.model_dump(mode="json", include=sections), "lmm": self.lmm.asked}

    @property
    def training_nodes(self) -> int | None:
        """The number of the cluster's nodes that train; None if training runs where its step runs."""
        return self.ray.training_nodes if self.engine == "ray" else None

    @model_validator(mode="after")
    def _nodes_train_alike(self) -> Self:
        if self.training_nodes and self.training.processes % self.training_nodes:
            raise ValueError(
                f"training.processes {self.training.processes} is not a multiple of ray.training_nodes "
                f"{self.training_nodes}; change one of them"
            )
        return self

    @model_validator(mode="after")
    def _what_answers_is_compared(self) -> Self:
        if self.model.main not in self.model.variants:
            raise ValueError(
                f"model.main is {self.model.main}, which is not in model.variants; add it there or choose one of them"
            )
        return self

    @model_validator(mode="after")
    def _training_has_the_light_it_reads(self) -> Self:
        if self.training.relit_share and not self.relighting.copies:
            raise ValueError(
                f"training.relit_share is {self.training.relit_share:g}, but relighting.copies is 0; "
                "set copies to 1 or more, or relit_share to 0"
            )
        return self

    @model_validator(mode="after")
    def _patches_fit_the_photo(self) -> Self:
        encoder = self.encoder
        if encoder.name != "efficientnet-lite0":
            return self  # the patches of other encoders are known only from their checkpoints
        patches, rest = divmod(encoder.image_size, EFFICIENTNET_STRIDE)
        if rest or encoder.token_grid > patches:
            raise ValueError(
                f"encoder.image_size {encoder.image_size} gives efficientnet-lite0 no {encoder.token_grid} x "
                f"{encoder.token_grid} patches of {EFFICIENTNET_STRIDE} px; set a multiple of {EFFICIENTNET_STRIDE}, "
                f"at least {EFFICIENTNET_STRIDE * encoder.token_grid}, or a smaller encoder.token_grid"
            )
        return self
