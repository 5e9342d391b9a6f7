"""One question to a multimodal model through LiteLLM, with retries, backoff, fallbacks and a cost limit."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# Set before the import, because LiteLLM otherwise downloads its price list, and waits if there is no network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
import litellm

from dualgeo_core.base.errors import InputError
from dualgeo_core.refine.lmm.cache import Reply, ReplyCache
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
    """The cost limit does not allow a further call."""


class Failed(Exception):  # noqa: N818 - as above
    """No model replied; the message gives the last reason."""


@dataclass
class Ledger:
    """Calls, tokens, cost and faults so far, and the price reserved for the calls in progress; thread-safe."""

    max_cost_usd: float
    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    latency_s: float = 0.0
    unpriced: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    _highest_price_usd: dict[str, float] = field(default_factory=dict)
    _reserved_usd: list[float] = field(default_factory=list)
    _lock: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def reserved(self, model: str, *, expected_usd: float) -> Iterator[None]:
        """Reserves the price of one call while the block runs. Raises OverBudget if it exceeds the cost limit.

        The price is `expected_usd`, or that of the model's most expensive reply so far if it is higher. Only one call
        runs until the first reply has shown the actual price. If the limit is exceeded only because of the reservations
        of calls in progress, waits for these calls, because they may cost less.
        """
        if expected_usd == 0:
            yield
            return
        with self._lock:
            while True:
                price_usd = max(expected_usd, self._highest_price_usd.get(model, 0.0))
                if self.cost_usd + price_usd > self.max_cost_usd:
                    raise OverBudget
                fits = self.cost_usd + sum(self._reserved_usd) + price_usd <= self.max_cost_usd
                if not self._reserved_usd or (fits and model in self._highest_price_usd):
                    break
                self._lock.wait()
            self._reserved_usd.append(price_usd)
        try:
            yield
        finally:
            with self._lock:
                self._reserved_usd.remove(price_usd)
                self._lock.notify_all()

    def book(self, reply: Reply, *, priced: bool = True) -> None:
        """Adds a reply."""
        with self._lock:
            self.calls += 1
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens
            self.cost_usd += reply.cost_usd
            self.latency_s += reply.latency_s
            self.unpriced += not priced
            self._highest_price_usd[reply.model] = max(self._highest_price_usd.get(reply.model, 0.0), reply.cost_usd)

    def note(self, fault: str) -> None:
        """Counts a failed attempt by its kind."""
        with self._lock:
            self.faults[fault] += 1

    def note_cached(self) -> None:
        """Counts a reply from the cache."""
        with self._lock:
            self.cached += 1


def ask(
    messages: list[dict[str, Any]],
    *,
    settings: LmmSettings,
    ledger: Ledger,
    replies: ReplyCache,
    key_of: Callable[[str], str],
) -> Reply:
    """The reply of the first model that gives one, cached in `replies` under the key of that model.

    Raises OverBudget at the cost limit, Failed if no model replies, and InputError if every model refuses access.
    """
    refusals: list[str] = []
    last = "no model was asked"
    over_budget = False
    for model in (settings.model, *settings.fallbacks):
        assert model is not None, "settings.model must be set"
        cached = replies.get(key_of(model))
        if cached is not None:
            ledger.note_cached()
            return cached
        if over_budget:
            continue
        try:
            reply = _ask_model(messages, model=model, settings=settings, ledger=ledger)
        except OverBudget:
            over_budget = True
        except ACCESS_ERRORS as error:
            ledger.note(type(error).__name__)
            refusals.append(f"{model}: {_one_line(error)}")
        except (*TRANSIENT_ERRORS, *PERMANENT_ERRORS) as error:
            last = f"{model}: {_one_line(error)}"
        else:
            replies.put(key_of(model), reply)
            return reply
    if over_budget:
        raise OverBudget
    if len(refusals) == 1 + len(settings.fallbacks):
        raise InputError(f"every model refused access ({'; '.join(refusals)}); check lmm.model and the provider's key")
    raise Failed(last)


def api_base_of(model: str, settings: LmmSettings) -> str | None:
    """The server of a model: `api_base` for the first one, the provider's own for the fallbacks."""
    return settings.api_base if model == settings.model else None


def expected_usd(messages: list[dict[str, Any]], *, model: str, max_tokens: int) -> float:
    """LiteLLM's price of the prompt and of a reply with `max_tokens`; 0 if the model is free or has no known price."""
    # Without a model name, LiteLLM counts with the tokenizer that it contains, and downloads none.
    detailed = [{**message, "content": _in_detail(message["content"])} for message in messages]
    prompt_tokens = litellm.token_counter(model="", messages=detailed)
    try:
        return sum(litellm.cost_per_token(model=model, prompt_tokens=prompt_tokens, completion_tokens=max_tokens))
    except Exception:  # LiteLLM raises a bare Exception for a model without a price
        return 0.0


def _in_detail(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [
        {**part, "image_url": {**part["image_url"], "detail": "high"}} if part["type"] == "image_url" else part
        for part in content
    ]


def _ask_model(messages: list[dict[str, Any]], *, model: str, settings: LmmSettings, ledger: Ledger) -> Reply:
    price_usd = expected_usd(messages, model=model, max_tokens=settings.max_tokens)
    for attempt in range(settings.retries + 1):
        try:
            with ledger.reserved(model, expected_usd=price_usd):
                reply, priced = _complete(messages, model=model, settings=settings)
                ledger.book(reply, priced=priced)
            return reply
        except TRANSIENT_ERRORS as error:
            ledger.note(type(error).__name__)
            if attempt == settings.retries:
                raise
            wait_s = _wait_s(error, attempt=attempt, first_s=settings.backoff_s)
        except PERMANENT_ERRORS as error:
            ledger.note(type(error).__name__)
            raise
        time.sleep(wait_s)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _complete(messages: list[dict[str, Any]], *, model: str, settings: LmmSettings) -> tuple[Reply, bool]:
    started = time.monotonic()
    response = litellm.completion(
        model=model,
        messages=messages,
        api_base=api_base_of(model, settings),
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
