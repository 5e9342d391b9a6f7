"""`locate` answers as the graph's benchmarks were answered; and what it sends to a multimodal model."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import Home
from lmm_server import Body, LmmServer, Say, lmm_server
from PIL import Image
from typer.testing import CliRunner

from dualgeo_core.answering.answers import Answer
from dualgeo_core.answering.locator import Locator
from dualgeo_core.cli import app
from dualgeo_core.photos.decode import decode_image
from dualgeo_core.photos.photographers import split_by_photographer
from dualgeo_core.pipeline.methods import main_method
from dualgeo_core.pipeline.opening import open_answerer, open_relit_views, open_views
from dualgeo_core.pipeline.stage1 import make_candidates
from dualgeo_core.pipeline.stage2 import (
    in_every_light,
    main_candidates,
    make_lmm_answers,
    make_locator,
    make_predictions,
    make_refiner,
    predictions_by_method,
)
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.settings import Settings, load_settings

BENCHMARK, LMM = "by_day", "openai/tiny"
PREDICTED = ("latitude", "longitude", "radius_50_km", "radius_90_km", "confidence_25km", "place", "status")
FOUND = ("gallery_id", "latitude", "longitude", "similarity")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.fixture(scope="module")
def server() -> Iterator[LmmServer]:
    """A model on loopback that tells another place for every other question."""

    def reply(body: Body, number: int) -> Say:
        digest = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).digest()
        latitude, longitude = digest[0] / 2 - 60, digest[1] - 120
        return Say(json.dumps({"latitude": latitude, "longitude": longitude, "place": "here", "granularity": "city"}))

    with lmm_server(reply) as server:
        yield server


@pytest.fixture
def workspace(graph_home: Home, tmp_path: Path) -> Workspace:
    """A copy of the finished home, to be changed at will."""
    for folder in ("data", "artifacts", "profiles"):
        shutil.copytree(graph_home.path / folder, tmp_path / "home" / folder)
    return Workspace(load_settings("tiny", home=tmp_path / "home"))


def changed(workspace: Workspace, **sections: dict[str, object]) -> Workspace:
    """The same workspace with other settings in these sections of its profile."""
    profile = workspace.profile
    update = {name: getattr(profile, name).model_copy(update=values) for name, values in sections.items()}
    return Workspace(Settings(profile=profile.model_copy(update=update), home=workspace.settings.home))


def evaluate(workspace: Workspace) -> None:
    """Runs the steps from the index on, as the graph does."""
    make_candidates(workspace, BENCHMARK)
    make_refiner(workspace)
    make_locator(workspace)
    make_lmm_answers(workspace, BENCHMARK)
    make_predictions(workspace, BENCHMARK)


def queries(workspace: Workspace) -> dict[str, Image.Image]:
    photos = workspace.photos(BENCHMARK)
    return {photo_id: decode_image(photos.image(photo_id)) for photo_id in photos.frame["id"]}


def as_located(answers: list[Answer]) -> list[dict[str, object]]:
    """What `locate` said of each photo, in the words of the graph's tables."""
    return [
        {
            "id": answer.photo,
            **{column: getattr(answer, column) for column in PREDICTED},
            "candidates": [tuple(getattr(candidate, name) for name in FOUND) for candidate in answer.candidates],
        }
        for answer in answers
    ]


def as_predicted(workspace: Workspace) -> list[dict[str, object]]:
    """What the graph's tables say of each photo."""
    candidates = main_candidates(workspace, BENCHMARK)
    similar = candidates[candidates["kind"] == "similar"]
    predictions = predictions_by_method(workspace, BENCHMARK)[main_method(workspace.profile).name]
    return [
        {
            **{column: prediction[column] for column in ("id", *PREDICTED)},
            "candidates": [tuple(row) for row in similar.loc[similar["id"] == prediction["id"], [*FOUND]].to_numpy()],
        }
        for prediction in predictions.to_dict("records")
    ]


def test_locate_repeats_the_predictions_of_the_graphs_run(graph_home: Home) -> None:
    workspace = Workspace(load_settings("tiny", home=graph_home.path))
    locator, photos = Locator(workspace.locator), queries(workspace)

    located = locator.locate_images(names=list(photos), images=list(photos.values()))

    assert as_located(located) == as_predicted(workspace)


def test_hubness_and_a_multimodal_model_hold_for_locate_too(workspace: Workspace, server: LmmServer) -> None:
    plain = as_predicted(workspace)
    lmm = {"model": LMM, "api_base": server.url, "concurrency": 1}
    asking = changed(workspace, retrieval={"hubness_neighbours": 5}, lmm=lmm)
    evaluate(asking)
    asked_by_graph = list(server.requests)
    server.requests.clear()
    photos = queries(asking)

    located = Locator(asking.locator).locate_images(names=list(photos), images=list(photos.values()))

    expected = as_predicted(asking)
    assert as_located(located) == expected
    assert len(server.requests) == len(photos)
    assert server.requests == asked_by_graph, "the same photos with the same evidence"
    for before, after in zip(plain, expected, strict=True):
        assert before["candidates"] != after["candidates"], "hubs were marked down"
        assert before["latitude"] != after["latitude"], "the model was heeded"


def test_calibration_sees_held_out_photos_in_every_light(graph_home: Home) -> None:
    workspace = Workspace(load_settings("tiny", home=graph_home.path))
    gallery = open_views(workspace, GALLERY)
    rows = split_by_photographer(gallery.frame, workspace.profile.training).queries
    lights = (gallery, *open_relit_views(workspace, gallery))

    candidates, truth = in_every_light(open_answerer(workspace), lights, rows)

    taken, relit = truth[truth["copy_of"].isna()], truth[truth["copy_of"].notna()]
    assert taken["id"].tolist() == relit["copy_of"].tolist() == gallery.frame["id"].iloc[rows].tolist()
    assert set(candidates["id"]) == set(truth["id"])
    best = candidates[(candidates["kind"] == "similar") & (candidates["rank"] == 1)].set_index("id")["similarity"]
    assert (best[taken["id"]].to_numpy() != best[relit["id"]].to_numpy()).all()


def test_a_near_duplicate_in_the_gallery_is_no_candidate(graph_home: Home) -> None:
    workspace = Workspace(load_settings("tiny", home=graph_home.path))
    photos = workspace.photos(GALLERY)
    photo_id = photos.frame["id"][0]

    [answer] = Locator(workspace.locator).locate_images(names=["copy"], images=[decode_image(photos.image(photo_id))])

    found = [candidate.gallery_id for candidate in answer.candidates]
    assert photo_id not in found
    assert len(found) == workspace.profile.retrieval.candidates, "what was left out is made up for"


def test_an_album_is_located_together(graph_home: Home) -> None:
    """Photos of one album are not answered as if alone, an anchor keeps its place, and one photo is just a photo."""
    workspace = Workspace(load_settings("tiny", home=graph_home.path))
    locator, photos = Locator(workspace.locator), queries(workspace)
    names, images = list(photos), list(photos.values())
    alone = locator.locate_images(names=names, images=images)
    taken = [datetime(2020, 5, 1, 12, minute, tzinfo=UTC) for minute in range(len(names) - 1)] + [None]
    anchor = (48.85, 2.35)

    together = locator.locate_album(
        names=names, images=images, taken=taken, positions=[anchor] + [None] * (len(names) - 1)
    )

    assert [answer.photo for answer in together] == names
    assert (together[0].status, together[0].latitude, together[0].longitude) == ("anchor", *anchor)
    assert together[0].radius_90_km == 0
    assert all(
        (found.latitude, found.radius_90_km) != (single.latitude, single.radius_90_km)
        for found, single in zip(together[1:], alone[1:], strict=True)
    )
    one = locator.locate_images(names=names[:1], images=images[:1])
    assert locator.locate_album(names=names[:1], images=images[:1], taken=taken[:1], positions=[None]) == one


def test_a_photo_is_sent_to_the_model_that_is_named_and_nowhere_else(
    workspace: Workspace, server: LmmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = workspace.settings.home
    make_locator(changed(workspace, lmm={"api_base": server.url}))  # a server, and no model
    shutil.rmtree(workspace.settings.champion)  # so that the last run's locator answers
    monkeypatch.setenv("DUALGEO_HOME", str(home))
    photo = home / "photo.jpg"
    photo.write_bytes(workspace.photos(BENCHMARK).image(workspace.photos(BENCHMARK).frame["id"][0]))
    server.requests.clear()

    silent = CliRunner().invoke(app, ["locate", "--profile", "tiny", "--json", str(photo)])

    assert (silent.exit_code, server.requests) == (0, [])
    assert LMM not in silent.stderr

    asking = CliRunner().invoke(app, ["locate", "--profile", "tiny", "--json", "--lmm", LMM, str(photo)])

    assert asking.exit_code == 0
    [told] = [line for line in asking.stderr.splitlines() if not line.startswith("Note:")]
    assert LMM in told
    assert server.url in told
    assert [request["model"] for request in server.requests] == ["tiny"]
    assert json.loads(asking.stdout)["latitude"] != json.loads(silent.stdout)["latitude"]
