"""The profile `world`: candidates are places, the posterior is GeoCLIP's, and what is missing is said in one line.

The weights are made up. tests/services/test_world.py takes the real heads and the true architecture.
"""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient
from made_geoclip import made_photo, make_clip, make_geoclip
from made_photos import make_photos
from scipy.special import log_softmax
from transformers import CLIPImageProcessorPil, SiglipVisionConfig, SiglipVisionModel
from typer.testing import CliRunner

from dualgeo_core import Locator
from dualgeo_core.answering.opening import locator_opener
from dualgeo_core.answering.place_locator import PlaceLocator, uncalibrated_refiner
from dualgeo_core.base.artifacts import new_artifact
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import haversine_km
from dualgeo_core.cli import app
from dualgeo_core.maps.records import no_thumbnail
from dualgeo_core.model.geoclip import load_geoclip
from dualgeo_core.refine.density import shipped_places
from dualgeo_core.refine.predict import predict
from dualgeo_core.refine.refiner import REFINER_FILE, save_refiner, shipped_refiner
from dualgeo_core.retrieval.places import PhotoPlaces, PhotoVectors, PlaceRetriever
from dualgeo_core.serving.app import Service, make_app
from dualgeo_core.settings import PlaceSettings, RefinementSettings, load_answering_settings, load_settings

PLACES = shipped_places().iloc[::200].reset_index(drop=True)  # encoding all takes a minute


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the profile `world` over a small CLIP, a made-up package geoclip, and fewer places."""
    make_geoclip(tmp_path / "packages")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setattr("dualgeo_core.answering.place_locator.shipped_places", lambda: PLACES)
    monkeypatch.setenv("DUALGEO_HOME", str(tmp_path))
    clip = make_clip(tmp_path / "clip")
    (tmp_path / "profiles").mkdir()
    write_profile(tmp_path, name=str(clip))
    for number in range(3):
        (tmp_path / "trip").mkdir(exist_ok=True)
        made_photo(number).save(tmp_path / "trip" / f"{number}.png")
    return tmp_path


def write_profile(home: Path, *, name: str) -> None:
    text = f"threads: 1\nplaces: {{}}\nencoder: {{name: {name}, image_size: 56, batch_size: 2}}\n"
    (home / "profiles" / "world.yaml").write_text(text)


@pytest.fixture
def retriever(home: Path) -> PlaceRetriever:
    model = load_geoclip()
    degrees = np.array(PLACES[["latitude", "longitude"]])
    places = PhotoPlaces(
        latitude=degrees[:, 0],
        longitude=degrees[:, 1],
        photos=np.array(PLACES["photos"], dtype=np.float64),
        order=np.arange(len(degrees)),
        vectors_pd=model.places(torch.from_numpy(degrees)),
    )
    return PlaceRetriever(model=model, places=places, settings=PlaceSettings())


def queries(vectors: torch.Tensor) -> PhotoVectors:
    return PhotoVectors(pd.DataFrame({"id": [str(row) for row in range(len(vectors))]}), vectors)


def test_a_place_encoded_as_a_query_finds_itself(retriever: PlaceRetriever) -> None:
    rows = np.arange(0, len(PLACES), 40)
    found = retriever.candidates(queries(retriever.places.vectors_pd[rows]))
    first = found[found["rank"] == 1]
    assert np.array_equal(first["latitude"], PLACES["latitude"].iloc[rows])
    assert np.array_equal(first["longitude"], PLACES["longitude"].iloc[rows])

    answers = predict(
        candidates=found,
        answers=None,
        method="posterior",
        params=uncalibrated_refiner(),
        settings=RefinementSettings(),
        ids=[str(row) for row in range(len(rows))],
    )
    error_km = haversine_km(answers["latitude"], answers["longitude"], first["latitude"], first["longitude"])
    assert (error_km < 25).all()
    assert (error_km <= answers["radius_50_km"]).all()


def test_candidates_have_geoclips_order_and_all_of_its_probability(retriever: PlaceRetriever) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(3, 512, generator=torch.Generator().manual_seed(5)), dim=-1)
    found = retriever.candidates(queries(vectors))
    logits = retriever.model.scale * (vectors @ retriever.places.vectors_pd.T).double().numpy()
    probability = np.exp(log_softmax(logits + np.log(retriever.places.photos), axis=1))

    for row, (_, candidates) in enumerate(found.groupby("id")):
        assert np.exp(candidates["gps_score"]).sum() == pytest.approx(1)
        best = np.argsort(-logits[row])[:20]
        assert np.allclose(candidates["latitude"].iloc[:20], retriever.places.latitude[best])
        near = haversine_km(PLACES["latitude"].iloc[best[0]], PLACES["longitude"].iloc[best[0]], 0, 0)
        away = haversine_km(candidates["latitude"], candidates["longitude"], 0, 0)
        assert np.exp(candidates["gps_score"])[np.abs(away - near) < 30].sum() >= probability[row, best[0]] - 1e-6


def test_rings_are_where_the_location_encoder_prefers_them(retriever: PlaceRetriever) -> None:
    """A photo of a place 5 km from a photo place gets a candidate within 3 km, which no photo place is."""
    here = PLACES.iloc[100]
    target = torch.tensor([[here["latitude"] + 5 / 111.2, here["longitude"]]], dtype=torch.float64)
    found = retriever.candidates(queries(retriever.model.places(target)))
    distance = haversine_km(found["latitude"], found["longitude"], target[0, 0], target[0, 1])
    assert distance.min() < 3
    assert found["similarity"].iloc[int(distance.argmin())] > found["similarity"].iloc[0]


def test_candidates_do_not_depend_on_other_photos(retriever: PlaceRetriever) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(4, 512, generator=torch.Generator().manual_seed(6)), dim=-1)
    together = retriever.candidates(queries(vectors))
    alone = retriever.candidates(queries(vectors), rows=np.array([2]))
    pd.testing.assert_frame_equal(together[together["id"] == "2"].reset_index(drop=True), alone, atol=1e-6)


def test_locator_answers_as_any_other_and_says_it_is_not_calibrated(home: Path) -> None:
    locator = Locator.from_profile("world")
    answers = locator.locate([made_photo(0), made_photo(1)], spread=True)

    assert [answer.status for answer in answers] == ["ok", "ok"]
    for answer in answers:
        assert not answer.calibrated
        assert answer.radius_50_km < answer.radius_90_km
        assert len(answer.candidates) == 20
        assert {candidate.gallery_id for candidate in answer.candidates} == {None}
        assert answer.spread.background < 0.01
    assert locator.doubts == (
        "radii and confidences are not calibrated; `python benchmarks/world.py` calibrates them on IM2GPS3k",
    )


def test_vectors_of_places_are_computed_once(home: Path) -> None:
    told: list[str] = []
    settings = load_answering_settings("world")
    for _ in range(2):
        locator_opener(settings, progress=lambda what, done, total: told.append(what))()
    assert told == ["encode photo places, once"]


def test_a_calibration_counts_for_the_same_models_and_settings_only(home: Path) -> None:
    settings = load_answering_settings("world")
    locator = locator_opener(settings)()
    assert isinstance(locator, PlaceLocator)
    fitted = replace(shipped_refiner(), data={"made": "up"})
    with new_artifact(locator.calibration) as folder:
        save_refiner(folder / REFINER_FILE, fitted)

    calibrated = locator_opener(settings)()
    answer = calibrated.locate(made_photo(0))
    assert calibrated.is_calibrated
    assert answer.calibrated
    assert answer.locator != locator.locate(made_photo(0)).locator

    other = settings.profile.model_copy(update={"places": PlaceSettings(rest=50)})
    assert not locator_opener(settings.model_copy(update={"profile": other}))().is_calibrated


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(done.exception, InputError):
        return "", str(done.exception)
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


def test_the_benchmark_calibrates_the_profile_and_scores_other_photographers(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_photos(home / "data", numbers=range(84))
    monkeypatch.setattr(sys, "argv", ["world.py", "--photo-set", "set"])
    runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "world.py"), run_name="__main__")
    table = capsys.readouterr().out
    assert all(
        name in table for name in ("GeoCLIP's first place", "posterior, not calibrated", "posterior, calibrated")
    )
    assert Locator.from_profile("world").locate(made_photo(0)).calibrated


def test_the_command_prints_places_and_writes_a_map_without_gallery_photos(home: Path) -> None:
    stdout, stderr = run("locate", "--profile", "world", home / "trip", "--map", home / "map.html")
    assert stdout.count("(not calibrated)") >= 3
    assert stdout.count("  place: ") == 15
    assert "9 times out of 10" not in stdout
    assert "similar:" not in stdout
    assert "Note: radii and confidences are not calibrated" in stderr
    assert '"calibrated":false' in (home / "map.html").read_text()

    answers = [
        json.loads(line) for line in run("locate", "--profile", "world", "--json", home / "trip")[0].splitlines()
    ]
    assert {answer["calibrated"] for answer in answers} == {False}


@pytest.mark.parametrize("option", ["--write-sidecar", "--album"])
def test_nothing_is_written_or_joined_on_doubtful_confidence(home: Path, option: str) -> None:
    assert "not calibrated, so it writes no sidecars" in run("locate", "--profile", "world", option, home / "trip")[1]
    assert not list(home.rglob("*.xmp"))


def test_a_risk_that_nothing_is_known_about_is_refused(home: Path) -> None:
    assert "max_risk 0.2 cannot be kept" in run("locate", "--profile", "world", "--max-risk", "0.2", home / "trip")[1]


def test_commands_of_the_pipeline_refuse_the_profile_in_one_line(home: Path) -> None:
    with pytest.raises(InputError, match="profile world has no gallery and no training"):
        load_settings("world")


def test_the_service_answers_with_places(home: Path) -> None:
    settings = load_answering_settings("world")
    service = Service(
        open_locator=locator_opener(settings),
        gallery_thumbnail=no_thumbnail,
        settings=settings.profile.serving,
        token=None,
        hosts=None,
    )
    with TestClient(make_app(service), base_url="http://127.0.0.1") as client:
        while client.get("/readyz").status_code != 200:
            pass
        files = {"photos": (home / "trip" / "0.png").read_bytes()}
        [record] = client.post("/locate?for_map=true", files=files).json()["answers"]
    assert record["calibrated"] is False
    assert record["candidates"][0]["gallery_id"] is None
    assert record["spread"]["points"]


def test_what_is_missing_is_said_in_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_profile(home, name="openai/clip-vit-large-patch14")
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    for command in (("locate", home / "trip"), ("serve",)):
        said = run(*command, "--profile", "world")[1]
        assert "needs openai/clip-vit-large-patch14 (1.7 GB, MIT licence" in said
        assert "HF_HUB_OFFLINE forbids downloads" in said
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in run("locate", "--profile", "world", home / "trip")[1]

    monkeypatch.setattr("dualgeo_core.model.gps_encoder.find_spec", lambda name: None)
    said = run("locate", "--profile", "world", home / "trip")[1]
    assert "pip install --no-deps geoclip" in said
    assert "40 MB, MIT licence" in said


def test_a_download_is_asked_for_on_a_terminal(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_profile(home, name="openai/clip-vit-large-patch14")
    monkeypatch.setattr("dualgeo_core.views.pretrained.hub_fault", lambda: None)
    asked: list[str] = []
    monkeypatch.setattr("dualgeo_core.commands.downloads.sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda question, **options: asked.append(question))
    from dualgeo_core.commands.downloads import confirm_downloads

    with pytest.raises(InputError, match="nothing was downloaded"):
        confirm_downloads(load_answering_settings("world"))
    assert asked == ["Download it now?"]


def test_another_encoder_than_geoclips_is_refused(home: Path) -> None:
    """Also one whose vectors have the right width: the head was trained on CLIP's, and would answer with noise."""
    write_profile(home, name=str(make_clip(home / "narrow", projection_dim=64)))
    with pytest.raises(InputError, match="a clip_vision_model whose vectors have 64 numbers"):
        Locator.from_profile("world")
    shape = {"hidden_size": 768, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    SiglipVisionModel(SiglipVisionConfig(**shape, patch_size=14, image_size=56)).save_pretrained(home / "siglip")
    CLIPImageProcessorPil().save_pretrained(home / "siglip")
    write_profile(home, name=str(home / "siglip"))
    with pytest.raises(InputError, match=r"a siglip_vision_model whose vectors have 768 numbers, .* of a clip_vision"):
        Locator.from_profile("world")
