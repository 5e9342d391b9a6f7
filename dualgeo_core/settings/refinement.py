"""Settings of Stage 2: the multimodal model, refinement, and evaluation."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dualgeo_core.settings.base import Positive, Section, Seed, Text, matching

ProfileMethod = Literal["rank1", "dbscan", "hdbscan", "posterior"]
RefineMethod = Literal["rank1", "dbscan", "hdbscan", "posterior", "album"]  # albums come with a command
Address = Annotated[str, matching(r"https?://[^\s/]\S*", "use one such as http://127.0.0.1:8000/v1")]


class LmmSettings(Section):
    """Settings of the large multimodal model (LMM), called through LiteLLM.

    It is off if both `model` and `answers_file` are None. Set API keys in the provider's own environment variables.
    """

    model: Text | None = Field(None, description="LiteLLM model name, e.g. gemini/gemini-2.0-flash or ollama/llava.")
    fallbacks: tuple[Text, ...] = Field((), description="LiteLLM models to call if the first one keeps failing.")
    api_base: Address | None = Field(None, description="Base URL of a local OpenAI-compatible server.")
    answers_file: Text | None = Field(None, description="CSV of recorded answers to replay instead of calling a model.")
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

    @property
    def asked(self) -> dict[str, Any]:
        """The settings that change an answer; the others change only speed, retries and cost."""
        keys = {"model", "fallbacks", "api_base", "samples", "temperature", "max_tokens", "image_size"}
        return self.model_dump(mode="json", include=keys)

    def asking(self, model: str) -> "LmmSettings":
        """These settings with another model and no fallbacks. It is asked at `api_base` if its provider is the same."""
        same_provider = self.model is None or self.model.partition("/")[0] == model.partition("/")[0]
        api_base = self.api_base if same_provider else None
        return self.model_copy(update={"model": model, "fallbacks": (), "api_base": api_base})


class RefinementSettings(Section):
    method: ProfileMethod = "posterior"
    params_file: Text | None = Field(
        None, description="File of a fitted refiner; None: fit one, or use the shipped one if there is too little data."
    )
    cluster_radius_km: float = Field(25.0, gt=0, description="HDBSCAN's cluster_selection_epsilon in km.")
    dbscan_radius_km: float = Field(50.0, gt=0, description="Radius of the paper's DBSCAN in km, for comparison.")
    max_risk: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Largest share of answers more than 25 km off, kept with a probability of 0.9 over calibration "
        "photographers. Less confident answers are withheld; None: no limit.",
    )

    least_likeness: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="p-value below which a photo is unlike the gallery and gets no position; 0: every photo gets one.",
    )

    @model_validator(mode="after")
    def _risk_is_known(self) -> Self:
        if self.max_risk is not None and self.method != "posterior":
            raise ValueError(f"max_risk needs method posterior, and method is {self.method}; change one of them")
        return self


class EvaluationSettings(Section):
    bootstrap_samples: Positive = Field(1000, description="Bootstrap resamples of photographers.")
    seed: Seed = 0
