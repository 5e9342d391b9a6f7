"""Requests to a multimodal model: the data sent, the positions parsed, and the status of failures."""

import base64
import io
import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmm_server import Cut, Fail, Say, lmm_server
from PIL import Image

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.decode import decode_image
from dualgeo_core.refine.lmm.answer import degrees, parse_answer
from dualgeo_core.refine.lmm.ask import ask_photos
from dualgeo_core.refine.lmm.prompt import photo_jpeg
from dualgeo_core.settings import LmmSettings

SYDNEY = '{"latitude": -33.86, "longitude": 151.21, "place": "Sydney", "granularity": "city", "evidence": "opera"}'
CANDIDATES = pd.DataFrame(
    {
        "id": ["a.jpg"] * 3,
        "kind": ["similar", "similar", "dissimilar"],
        "rank": [1, 2, 1],
        "latitude": [-33.9, -33.8, 51.5],
        "longitude": [151.2, 151.3, -0.1],
    }
)


def _photo(width=32, height=24):
    """A decoded photo that still carries the metadata of its file."""
    image = Image.new("RGB", (width, height), (90, 120, 30))
    exif = Image.Exif()
    exif[0x9286] = "SECRET-USER-COMMENT"
    exif.get_ifd(0x8825)[1] = "S"
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", exif=exif, comment=b"SECRET-COMMENT")
    return Image.open(buffer)


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback")


def _settings(server, **changes):
    defaults = {
        "model": "openai/gpt-4o-mini",
        "api_base": server.url,
        "backoff_s": 0.01,
        "timeout_s": 10.0,
        "retries": 2,
    }
    return LmmSettings(**{**defaults, **changes})


def _ask(settings, folder, ids=("a.jpg",), image=lambda photo_id: _photo()):
    return ask_photos(
        ids=list(ids), image=image, candidates=CANDIDATES, settings=settings, cluster_radius_km=25, replies=folder
    )


def test_an_answer_comes_back_typed_and_counted(tmp_path):
    with lmm_server(lambda body, number: Say(f"Here you are:\n```json\n{SYDNEY}\n```")) as server:
        answers, counts = _ask(_settings(server), tmp_path)
    row = answers.iloc[0]
    assert (row["status"], row["latitude"], row["longitude"]) == ("answered", -33.86, 151.21)
    assert (row["location"], row["granularity"], row["model"]) == ("Sydney", "city", "openai/gpt-4o-mini")
    assert counts["prompt_tokens"] == 1000
    assert counts["cost_usd"] > 0
    assert counts["status answered"] == 1


def test_only_pixels_and_evidence_leave_the_house(tmp_path):
    with lmm_server(lambda body, number: Say(SYDNEY)) as server:
        _ask(_settings(server), tmp_path, image=lambda photo_id: _photo(2000, 1000))
    text, picture = server.requests[0]["messages"][1]["content"]
    sent = base64.b64decode(picture["image_url"]["url"].split(",")[1])
    assert b"SECRET" not in sent
    assert b"Exif" not in sent
    assert not Image.open(io.BytesIO(sent)).getexif()
    assert Image.open(io.BytesIO(sent)).size == (768, 384)
    assert "a.jpg" not in json.dumps(server.requests[0])
    assert "New South Wales, Australia" in text["text"]
    assert "-33.9000, 151.2000" in text["text"]
    assert "51.5000, -0.1000" in text["text"]


def test_a_rotated_photo_is_sent_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, format="JPEG", exif=exif)
    sent = photo_jpeg(decode_image(buffer.getvalue()), longest_side=768)
    assert Image.open(io.BytesIO(sent)).size == (20, 40)


def test_a_second_run_asks_nothing_and_gives_the_same(tmp_path):
    with lmm_server(lambda body, number: Say(SYDNEY)) as server:
        first, _ = _ask(_settings(server), tmp_path)
        second, counts = _ask(_settings(server), tmp_path)
        assert len(server.requests) == 1
        _ask(_settings(server, temperature=0.7), tmp_path)
        assert len(server.requests) == 2
    pd.testing.assert_frame_equal(first, second)
    assert counts["cached"] == 1
    assert counts["cost_usd"] == 0


@pytest.mark.parametrize("fault", [Fail(500), Fail(503), Fail(429, {"Retry-After": "0"}), Cut()])
def test_passing_faults_are_retried(fault, tmp_path):
    with lmm_server(lambda body, number: fault if number == 0 else Say(SYDNEY)) as server:
        answers, counts = _ask(_settings(server), tmp_path)
    assert answers["status"].tolist() == ["answered"]
    assert len(server.requests) == 2
    assert sum(count for name, count in counts.items() if name.startswith("fault ")) == 1


def test_retry_after_is_heeded(tmp_path):
    with lmm_server(lambda body, number: Fail(429, {"Retry-After": "0.4"}) if number == 0 else Say(SYDNEY)) as server:
        started = time.monotonic()
        _ask(_settings(server), tmp_path)
    assert time.monotonic() - started >= 0.4


def test_a_lasting_fault_is_a_status_and_is_asked_again_next_time(tmp_path):
    with lmm_server(lambda body, number: Fail(500) if number < 3 else Say(SYDNEY)) as server:
        answers, counts = _ask(_settings(server), tmp_path)
        assert answers["status"].tolist() == ["failed"]
        assert np.isnan(answers["latitude"].iloc[0])
        assert "500" in answers["reason"].iloc[0]
        assert counts["fault InternalServerError"] == 3
        answers, _ = _ask(_settings(server), tmp_path)
    assert answers["status"].tolist() == ["answered"]


def test_a_slow_model_times_out(tmp_path):
    with lmm_server(lambda body, number: Say(SYDNEY, delay_s=1.0)) as server:
        answers, counts = _ask(_settings(server, timeout_s=0.2, retries=0), tmp_path)
    assert answers["status"].tolist() == ["failed"]
    assert counts["fault Timeout"] == 1


def test_a_fallback_answers_where_the_first_model_fails(tmp_path, monkeypatch):
    def reply(body, number):
        return Fail(500) if body["model"] == "gpt-4o-mini" else Say(SYDNEY)

    with lmm_server(reply) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        answers, _ = _ask(_settings(server, fallbacks=("openai/gpt-4o",), retries=1), tmp_path)
    assert answers["status"].tolist() == ["answered"]
    assert answers["model"].tolist() == ["openai/gpt-4o"]


def test_a_wrong_key_is_the_users_to_mend(tmp_path):
    with lmm_server(lambda body, number: Fail(401)) as server, pytest.raises(InputError, match="key"):
        _ask(_settings(server), tmp_path)
    assert len(server.requests) == 1


def test_asking_stops_at_the_cost_ceiling_and_the_rest_goes_on(tmp_path):
    ids = [f"{number}.jpg" for number in range(6)]
    photos = {photo_id: _photo(20 + number) for number, photo_id in enumerate(ids)}
    with lmm_server(lambda body, number: Say(SYDNEY)) as server:
        settings = _settings(server, max_cost_usd=0.0005, concurrency=1)
        answers, counts = _ask(settings, tmp_path, ids=ids, image=photos.__getitem__)
    assert set(answers["status"]) == {"answered", "over_budget"}
    assert counts["cost_usd"] <= 0.0005
    assert len(server.requests) == (answers["status"] == "answered").sum()
    assert answers["id"].tolist() == ids


def test_requests_at_once_are_bounded_and_samples_are_rows(tmp_path):
    ids = [f"{number}.jpg" for number in range(6)]
    photos = {photo_id: _photo(20 + number) for number, photo_id in enumerate(ids)}
    with lmm_server(lambda body, number: Say(SYDNEY, delay_s=0.05)) as server:
        settings = _settings(server, concurrency=2, samples=2, temperature=0.5)
        answers, _ = _ask(settings, tmp_path, ids=ids, image=photos.__getitem__)
    assert server.most_at_once <= 2
    assert len(answers) == len(server.requests) == 12
    assert answers["sample"].tolist() == [0, 1] * 6


def test_a_broken_photo_is_a_status_and_costs_nothing(tmp_path):
    with lmm_server(lambda body, number: Say(SYDNEY)) as server:
        answers, _ = _ask(_settings(server), tmp_path, image=lambda photo_id: decode_image(b"no photo"))
    assert answers["status"].tolist() == ["undecodable"]
    assert server.requests == []


def test_a_providers_own_refusal_is_one(tmp_path):
    with lmm_server(lambda body, number: Say("", refusal="I can't help with that")) as server:
        answers, _ = _ask(_settings(server), tmp_path)
    assert answers["status"].tolist() == ["refused"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("I'm sorry, I can't determine the location of this photo.", "refused"),
        ('{"latitude": null, "longitude": null, "granularity": "unknown"}', "refused"),
        ('{"latitude": 26.49, "longitude": 92.33, "place": "?", "granularity": "unknown"}', "refused"),
        ('{"latitude": -33.86, "longitude": 151.', "unparseable"),
        ("The photo shows 33.86 S, 151.21 E.", "unparseable"),
        ("", "unparseable"),
        ('{"latitude": true, "longitude": 3}', "unparseable"),
        ('{"latitude": NaN, "longitude": 3}', "unparseable"),
        ('{"latitude": "33.86 E", "longitude": "151.21 S"}', "unparseable"),
        ('{"latitude": 0, "longitude": 0}', "zero"),
        ('{"latitude": 133.86, "longitude": 151.21}', "out_of_range"),
        ('{"latitude": 33.86, "longitude": 191}', "out_of_range"),
    ],
)
def test_what_is_no_position_is_a_status(text, status):
    answer = parse_answer(text)
    assert answer.status == status
    assert np.isnan(answer.latitude)
    assert np.isnan(answer.longitude)


@pytest.mark.parametrize(
    ("text", "latitude", "longitude"),
    [
        ('{"latitude": -34, "longitude": 151}', -34, 151),
        ('{"latitude": "33.86 S", "longitude": "58.4° W"}', -33.86, -58.4),
        ('{"latitude": "33°30′S", "longitude": "E 151°12\'36\\""}', -33.5, 151.21),
        ('Sure! {"thought": {"a": 1}} and then {"latitude": 1.5, "longitude": "-2"} cheers', 1.5, -2),
        ('[{"latitude": 1.5, "longitude": 2, "place": "x"}]', 1.5, 2),
    ],
)
def test_positions_are_read_in_every_usual_form(text, latitude, longitude):
    answer = parse_answer(text)
    assert answer.status == "answered"
    assert (answer.latitude, answer.longitude) == (pytest.approx(latitude), pytest.approx(longitude))


@given(st.integers(0, 89), st.integers(0, 59), st.integers(0, 59), st.sampled_from("NS"))
def test_degrees_minutes_seconds_round_trip(whole, minutes, seconds, hemisphere):
    expected = (whole + minutes / 60 + seconds / 3600) * (1 if hemisphere == "N" else -1)
    assert degrees(f"{whole}°{minutes}'{seconds}\"{hemisphere}", "NS") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["33°75'", "-33°60'", "33°10'60\"", "33°75'S", "N 33°10'99\""])
def test_minutes_and_seconds_of_sixty_or_more_are_not_read(text):
    assert degrees(text, "NS") is None
    assert degrees("33°59'59\"", "NS") == pytest.approx(34 - 1 / 3600)


@given(st.text())
def test_no_text_breaks_the_parser_or_invents_a_place(text):
    answer = parse_answer(text)
    assert answer.status == "answered" or np.isnan(answer.latitude)
