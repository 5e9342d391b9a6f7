"""One question to a multimodal model through LiteLLM, with retries, backoff, fallbacks and a cost limit."""

import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

# Set before the import, because LiteLLM otherwise downloads its price list, and waits if there is no network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
import litellm

from dualgeo_core.base.errors import InputError
from dualgeo_core.refine.lmm.cache import Reply
from dualgeo_core.settings import LmmSettings

litellm.suppress_debug_info = True  # otherwise LiteLLM prints advertisements on every failure
litellm.telemetry = False

LONGEST_WAIT_S = 60.0
ACCESS_ERRORS = (litellm.AuthenticationError, litellm.PermissionDeniedError, litellm.NotFoundError)
TRANSIENT_ERRORS = (
    litellm.RateLimitError,
    litellm.InternalServerError,
    litellm.ServiceUnavailableError,
    litellm.BadGatewayError,
    litellm.Timeout,
    litellm.APIConnectionError,
)
PERMANENT_ERRORS = (
    litellm.BadRequestError,
    litellm.UnprocessableEntityError,
    litellm.APIResponseValidationError,
    litellm.APIError,
)


class OverBudget(Exception):  # noqa: N818 - a state, not an error
    """The cost limit is reached; no further question is sent."""


class Failed(Exception):  # noqa: N818 - as above
    """No model replied; the message gives the last reason."""


@dataclass
class Ledger:
    """Calls, tokens, cost and faults so far; thread-safe."""

    max_cost_usd: float
    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    latency_s: float = 0.0
    unpriced: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    _highest_price_usd: float = 0.0
    _asking: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Reserves the price of the most expensive reply so far. Raises OverBudget if it exceeds the cost limit."""
        with self._lock:
            expected = self.cost_usd + (self._asking + 1) * self._highest_price_usd
            if expected > self.max_cost_usd or self.cost_usd >= self.max_cost_usd > 0:
                raise OverBudget
            self._asking += 1

    def end(self, reply: Reply | None, *, priced: bool = True) -> None:
        """Releases the reservation, and adds the reply if there is one."""
        with self._lock:
            self._asking -= 1
            if reply is None:
                return
            self.calls += 1
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens
            self.cost_usd += reply.cost_usd
            self.latency_s += reply.latency_s
            self.unpriced += not priced
            self._highest_price_usd = max(self._highest_price_usd, reply.cost_usd)

    def note(self, fault: str) -> None:
        """Counts a failed attempt by its kind."""
        with self._lock:
            self.faults[fault] += 1

    def note_cached(self) -> None:
        """Counts a reply from the cache."""
        with self._lock:
            self.cached += 1


def ask(messages: list[dict[str, object]], *, settings: LmmSettings, ledger: Ledger) -> Reply:
    """The reply of the first model that gives one.

    Raises OverBudget at the cost limit, Failed if no model replies, and InputError if every model refuses access.
    """
    refusals: list[str] = []
    last = "no model was asked"
    for model in (settings.model, *settings.fallbacks):
        assert model is not None, "settings.model must be set"
        try:
            return _ask_model(messages, model=model, settings=settings, ledger=ledger)
        except ACCESS_ERRORS as error:
            ledger.note(type(error).__name__)
            refusals.append(f"{model}: {_one_line(error)}")
        except (*TRANSIENT_ERRORS, *PERMANENT_ERRORS) as error:
            last = f"{model}: {_one_line(error)}"
    if len(refusals) == 1 + len(settings.fallbacks):
        raise InputError(f"every model refused access ({'; '.join(refusals)}); check lmm.model and the provider's key")
    raise Failed(last)


def _ask_model(messages: list[dict[str, object]], *, model: str, settings: LmmSettings, ledger: Ledger) -> Reply:
    for attempt in range(settings.retries + 1):
        ledger.begin()
        reply, priced = None, True
        try:
            reply, priced = _complete(messages, model=model, settings=settings)
            return reply
        except TRANSIENT_ERRORS as error:
            ledger.note(type(error).__name__)
            if attempt == settings.retries:
                raise
            wait_s = _wait_s(error, attempt=attempt, first_s=settings.backoff_s)
        except PERMANENT_ERRORS as error:
            ledger.note(type(error).__name__)
            raise
        finally:
            ledger.end(reply, priced=priced)
        time.sleep(wait_s)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _complete(messages: list[dict[str, object]], *, model: str, settings: LmmSettings) -> tuple[Reply, bool]:
    started = time.monotonic()
    response = litellm.completion(
        model=model,
        messages=messages,
        api_base=settings.api_base if model == settings.model else None,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        timeout=settings.timeout_s,
        max_retries=0,
        num_retries=0,
    )
    latency_s = time.monotonic() - started
    usage = response.usage
    cost, priced = _cost(response)
    reply = Reply(
        model=model,
        text=_text(response.choices[0]),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=cost,
        latency_s=latency_s,
    )
    return reply, priced


def _text(choice: litellm.Choices) -> str:
    """The reply's text; a provider's refusal or content filter becomes a text that parses as a refusal."""
    refusal = (getattr(choice.message, "provider_specific_fields", None) or {}).get("refusal")
    if refusal or choice.finish_reason == "content_filter":
        return f"I cannot answer: {refusal or 'content filter'}"
    return choice.message.content or ""


def _cost(response: litellm.ModelResponse) -> tuple[float, bool]:
    """The cost in USD, and whether LiteLLM knows the model's price; local models have none."""
    try:
        return float(litellm.completion_cost(completion_response=response)), True
    except Exception:  # LiteLLM raises a bare Exception for a model without a price
        return 0.0, False


def _wait_s(error: Exception, *, attempt: int, first_s: float) -> float:
    """Seconds to wait: the server's Retry-After, or exponential backoff with jitter; at most LONGEST_WAIT_S."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        asked = float(headers.get("retry-after", ""))
    except ValueError:
        asked = first_s * 2**attempt * random.uniform(0.5, 1.5)
    return min(max(asked, 0.0), LONGEST_WAIT_S)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
