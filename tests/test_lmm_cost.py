"""The multimodal model: the cost ceiling holds from the first call on, and each reply is kept under its own model."""

import io
from collections.abc import Iterator
from pathlib import Path

import litellm
import pandas as pd
import pytest
from lmm_server import Fail, Say, lmm_server
from PIL import Image

from dualgeo_core.refine.lmm.ask import ask_photos
from dualgeo_core.refine.lmm.client import expected_usd
from dualgeo_core.refine.lmm.prompt import messages, photo_jpeg
from dualgeo_core.settings import LmmSettings

SYDNEY = '{"latitude": -33.86, "longitude": 151.21, "place": "Sydney", "granularity": "city", "evidence": "opera"}'
PARIS = '{"latitude": 48.85, "longitude": 2.35, "place": "Paris", "granularity": "city", "evidence": "tower"}'
CANDIDATES = pd.DataFrame({"id": [], "kind": [], "rank": [], "latitude": [], "longitude": []})
IDS = [f"{number}.jpg" for number in range(8)]


@pytest.fixture(autouse=True)
def dear_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The loopback server counts 1000 prompt tokens and 50 completion tokens: a call of openai/dear costs 1 USD."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback")
    litellm.register_model(
        {
            "openai/dear": {
                "input_cost_per_token": 0.001,
                "output_cost_per_token": 0.0,
                "litellm_provider": "openai",
                "mode": "chat",
            }
        }
    )
    yield
    del litellm.model_cost["openai/dear"]


def photo(photo_id: str) -> Image.Image:
    return Image.new("RGB", (32, 24 + int(photo_id.split(".")[0])), (90, 120, 30))


def asked(url: str, replies: Path, ids: list[str] = IDS, **settings: object) -> tuple[pd.DataFrame, dict[str, float]]:
    defaults = {"model": "openai/dear", "api_base": url, "retries": 0, "backoff_s": 0.01, "concurrency": 4}
    return ask_photos(
        ids=ids,
        image=photo,
        candidates=CANDIDATES,
        settings=LmmSettings(**{**defaults, **settings}),
        cluster_radius_km=25,
        replies=replies,
    )


@pytest.mark.parametrize(("ceiling_usd", "calls"), [(0.0, 0), (0.4, 0), (1.5, 1), (2.0, 2), (3.5, 3)])
def test_the_ceiling_holds_with_four_calls_at_once(ceiling_usd: float, calls: int, tmp_path: Path) -> None:
    with lmm_server(lambda body, number: Say(SYDNEY, delay_s=0.02)) as server:
        answers, counts = asked(server.url, tmp_path, max_cost_usd=ceiling_usd)
    assert len(server.requests) == calls
    assert counts["cost_usd"] == pytest.approx(calls)
    assert counts["status over_budget"] == len(IDS) - calls
    assert len(answers) == len(IDS)


def test_calls_run_at_once_when_the_price_is_known(tmp_path: Path) -> None:
    with lmm_server(lambda body, number: Say(SYDNEY, delay_s=0.2)) as server:
        asked(server.url, tmp_path, max_cost_usd=100.0)
    assert 2 <= server.most_at_once <= 4
    assert len(server.requests) == len(IDS)


def test_a_free_model_is_asked_under_a_ceiling_of_zero(tmp_path: Path) -> None:
    with lmm_server(lambda body, number: Say(SYDNEY)) as server:
        answers, counts = asked(server.url, tmp_path, model="openai/of-my-own", max_cost_usd=0.0)
    assert set(answers["status"]) == {"answered"}
    assert counts["unpriced"] == len(IDS)


def test_failed_calls_are_not_counted_as_spent(tmp_path: Path) -> None:
    with lmm_server(lambda body, number: Fail(500) if number < 3 else Say(SYDNEY)) as server:
        answers, counts = asked(server.url, tmp_path, ids=IDS[:1], retries=3, max_cost_usd=1.0)
    assert answers["status"].tolist() == ["answered"]
    assert counts["cost_usd"] == pytest.approx(1.0)


def test_the_reservation_covers_photo_text_and_longest_reply() -> None:
    buffer = io.BytesIO(photo_jpeg(Image.new("RGB", (768, 768)), longest_side=768))
    chat = messages(jpeg=buffer.getvalue(), text="where?")
    short, long = (expected_usd(chat, model="gpt-4o", max_tokens=tokens) for tokens in (1, 401))
    price = litellm.model_cost["gpt-4o"]
    assert long - short == pytest.approx(400 * price["output_cost_per_token"])
    assert short > 765 * price["input_cost_per_token"], "a photo of 768 x 768 pixels has 765 tokens"


def test_a_fallbacks_reply_is_given_back_as_its_own_and_the_first_model_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovered = False

    def reply(body: dict[str, str], number: int) -> Say | Fail:
        if body["model"] == "other":
            return Say(PARIS)
        return Say(SYDNEY) if recovered else Fail(503)

    with lmm_server(reply) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)

        def places() -> tuple[list[str], list[str]]:
            answers, _ = asked(server.url, tmp_path, ids=IDS[:1], fallbacks=("openai/other",))
            return answers["location"].tolist(), answers["model"].tolist()

        assert places() == (["Paris"], ["openai/other"])
        assert places() == (["Paris"], ["openai/other"])
        assert [body["model"] for body in server.requests] == ["dear", "other", "dear"], "the fallback's was kept"
        recovered = True
        assert places() == (["Sydney"], ["openai/dear"])
        assert places() == (["Sydney"], ["openai/dear"])
    assert [body["model"] for body in server.requests] == ["dear", "other", "dear", "dear"]


def test_a_kept_reply_of_a_fallback_needs_no_money(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lmm_server(lambda body, number: Say(PARIS) if body["model"] == "other" else Fail(503)) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        asked(server.url, tmp_path, ids=IDS[:1], fallbacks=("openai/other",))
        answers, _ = asked(server.url, tmp_path, ids=IDS[:1], fallbacks=("openai/other",), max_cost_usd=0.0)
    assert answers["location"].tolist() == ["Paris"]


def test_the_cost_of_a_run_is_a_metric_if_every_price_is_known() -> None:
    from dualgeo_dagster.defs.refinement import cost_metric

    day, night = {"calls": 3.0, "cost_usd": 0.012, "unpriced": 0.0}, {"calls": 1.0, "cost_usd": 0.004, "unpriced": 0.0}
    assert cost_metric([day, night]) == {"lmm/cost usd": 0.016}
    assert cost_metric([day, {**night, "unpriced": 1.0}]) == {}
    assert cost_metric([{"answers": 0}]) == {}, "the profile names no model"
