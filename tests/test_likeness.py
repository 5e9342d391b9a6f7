"""Photos unlike the gallery get no position, radii grow with unlikeness, and photos like the gallery keep theirs."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from made_artifacts import artifact
from made_candidates import made_benchmark
from made_views import MadeViews, OneShard
from PIL import Image
from sklearn.datasets import load_sample_images

from dualgeo_core.earth.canvas import CLASSES
from dualgeo_core.earth.geography import choose_cells
from dualgeo_core.earth.ingest import Shot, take_photo
from dualgeo_core.photos.decode import decode_image
from dualgeo_core.refine.evidence import gather_evidence
from dualgeo_core.refine.fit import fit_refiner
from dualgeo_core.refine.likeness import FULLY_TRUSTED, fit_likeness
from dualgeo_core.refine.predict import predict
from dualgeo_core.refine.refiner import Refiner, load_refiner, save_refiner
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.retrieval.index_build import build_index
from dualgeo_core.settings import (
    EarthSettings,
    EncoderSettings,
    RefinementSettings,
    RetrievalSettings,
    SegmenterSettings,
)
from dualgeo_core.views.crop import resize_labels
from dualgeo_core.views.encoder import load_encoder
from dualgeo_core.views.segmenter import fit_segmenter

GALLERY, PHOTOGRAPHERS = 260, 65
SIZE, GRID = 96, 16


def with_similarities(candidates: pd.DataFrame, shift: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Candidates of queries that are as like the gallery as usual, less a shift in standard deviations."""
    random = np.random.default_rng(seed)
    ids = candidates["id"].unique()
    levels = pd.DataFrame(random.normal(size=(len(ids), 2)) - shift, index=ids).loc[candidates["id"]].to_numpy()
    return candidates.assign(encoder_similarity=0.6 + 0.05 * levels[:, 0], mask_similarity=0.9 + 0.02 * levels[:, 1])


@pytest.fixture(scope="module")
def made() -> tuple[pd.DataFrame, pd.DataFrame, Refiner]:
    """Candidates, true places, and a refiner calibrated on 60 photographers."""
    candidates, _, truth = made_benchmark(queries=240, photographers=60)
    candidates = with_similarities(candidates)
    return candidates, truth, fit_refiner(candidates=candidates, answers=None, truth=truth)


def refine(candidates: pd.DataFrame, refiner: Refiner, answers: pd.DataFrame | None = None, **settings) -> pd.DataFrame:
    return predict(
        candidates=candidates,
        answers=answers,
        method="posterior",
        params=refiner,
        settings=RefinementSettings(**settings),
    ).set_index("id")


def test_p_values_of_photos_like_the_calibration_are_uniform(made) -> None:
    refiner = made[2]
    new = with_similarities(made_benchmark(queries=400, photographers=50, seed=5)[0], seed=6)
    likeness = refine(new, refiner)["likeness"]
    for level in (0.03, 0.1, 0.5):
        assert (likeness <= level).mean() == pytest.approx(level, abs=0.06)
    evidence = gather_evidence(candidates=made[0], answers=None)
    own = fit_likeness(evidence, np.arange(240) % 60, np.full(240, -1))[1]
    assert (own < 0.1).mean() == pytest.approx(0.1, abs=0.06), "a photographer is not compared with himself"
    assert likeness.min() >= 1 / 61


def test_radii_grow_and_confidence_falls_with_unlikeness(made) -> None:
    candidates, _, refiner = made
    found = [refine(with_similarities(candidates, shift=shift), refiner, least_likeness=0) for shift in (0, 1, 2, 4)]
    radius = [float(predictions["radius_90_km"].median()) for predictions in found]
    confidence = [float(predictions["confidence_25km"].mean()) for predictions in found]
    assert radius == sorted(radius)
    assert radius[-1] > 2000
    assert confidence == sorted(confidence, reverse=True)
    assert confidence[-1] < 0.1
    fully_trusted = found[0]["likeness"] > FULLY_TRUSTED + 0.02
    alone = refine(candidates.drop(columns=["encoder_similarity", "mask_similarity"]), refiner)
    kept = found[0].loc[fully_trusted, ["latitude", "longitude", "radius_90_km"]]
    pd.testing.assert_frame_equal(kept, alone.loc[fully_trusted, kept.columns])


def test_an_unlike_photo_gets_no_position_unless_asked_for_or_answered_otherwise(made) -> None:
    candidates, truth, refiner = made
    unlike = with_similarities(candidates, shift=9)
    withheld = refine(unlike, refiner)
    assert set(withheld["status"]) == {"unlike_gallery"}
    assert withheld[["latitude", "radius_90_km", "confidence_25km"]].isna().all(axis=None)
    assert refine(unlike, refiner, least_likeness=0)["latitude"].notna().all()
    told = pd.DataFrame(
        {"id": truth["id"][:5], "latitude": 48.85, "longitude": 2.35, "location": "Paris", "status": "answered"}
    )
    with_answers = refine(unlike, refiner, answers=told)
    assert with_answers["latitude"].notna().sum() == 5


def test_few_photographers_cannot_call_a_photo_unlike(made) -> None:
    """With ten photographers the smallest p-value is 1/11."""
    candidates, _, truth = made_benchmark(queries=100, photographers=10)
    refiner = fit_refiner(candidates=with_similarities(candidates), answers=None, truth=truth)
    found = refine(with_similarities(candidates, shift=9), refiner)
    assert found["likeness"].tolist() == pytest.approx([1 / 11] * 100)
    assert (found["status"] == "ok").all()
    assert found["radius_90_km"].min() > 2000, "their radii say so nevertheless"


def test_candidates_without_view_similarities_have_no_likeness(tmp_path: Path) -> None:
    candidates, _, truth = made_benchmark(queries=60, photographers=6)
    evidence = gather_evidence(candidates=candidates, answers=None)
    assert fit_likeness(evidence, np.arange(60) % 6, np.full(60, -1))[0] is None
    refiner = fit_refiner(candidates=with_similarities(candidates), answers=None, truth=truth)
    assert refine(candidates, refiner)["likeness"].isna().all()
    save_refiner(tmp_path / "refiner.json", refiner)
    again = load_refiner(tmp_path / "refiner.json")
    assert again.fingerprint == refiner.fingerprint != replace(refiner, likeness=None).fingerprint


def test_copies_in_other_light_make_the_refusal_more_tolerant(made) -> None:
    """Copies are two standard deviations less like the gallery in each view, and so are queries at night."""
    candidates, truth, strict = made
    copies = with_similarities(candidates, shift=2, seed=3)
    in_other_light = truth.assign(id=truth["id"] + " relit", copy_of=truth["id"])
    tolerant = fit_refiner(
        candidates=pd.concat([candidates, copies.assign(id=copies["id"] + " relit")]),
        answers=None,
        truth=pd.concat([truth, in_other_light], ignore_index=True),
    )
    night = with_similarities(candidates, shift=2.5, seed=4)
    refused = [(refine(night, refiner)["status"] == "unlike_gallery").mean() for refiner in (strict, tolerant)]
    assert refused[1] < refused[0] - 0.2
    unlike = refine(with_similarities(candidates, shift=9), tolerant)
    assert set(unlike["status"]) == {"unlike_gallery"}
    assert tolerant.likeness.photographers == 60


# --- drawn photos, and photos of another kind, through encoder, segmenter and retrieval ---


def drawn(part: str, count: int, *, seed: int = 7) -> tuple[list[Image.Image], pd.DataFrame]:
    earth = EarthSettings(seed=seed, countries=4, cities=2, cells=2, image_size=SIZE)
    cells = choose_cells(seed=seed, countries=4, cities=2, cells=2)
    photos = [
        take_photo(Shot(earth, part, row, cell := cells[row % len(cells)], (cell.city.name,))) for row in range(count)
    ]
    frame = pd.DataFrame([{"id": p.id, "latitude": p.latitude, "longitude": p.longitude} for p in photos])
    return [decode_image(photo.image) for photo in photos], frame


def of_another_kind() -> list[Image.Image]:
    """Parts of the two photographs that scikit-learn ships (CC-BY), and drawn textures."""
    random = np.random.default_rng(0)
    parts = [
        Image.fromarray(image).crop((left, top, left + 320, top + 320))
        for image in load_sample_images().images
        for left, top in ((0, 0), (160, 60), (320, 100))
    ]
    noise = random.integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    stripes = np.tile(np.where(np.arange(SIZE) // 8 % 2, 230, 40)[:, None, None], (1, SIZE, 3)).astype(np.uint8)
    patches = np.kron(random.integers(0, 256, (2, 6, 6, 3)), np.ones((1, 16, 16, 1))).astype(np.uint8)
    return parts + [Image.fromarray(pixels) for pixels in (*noise, stripes, *patches)]


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory):
    """`eye(images, frame)`: their views by EfficientNet-Lite0 and the shipped SegFormer."""
    encoder_settings = EncoderSettings(name="efficientnet-lite0", image_size=SIZE, token_grid=2)
    settings = SegmenterSettings(name="models/earth-segformer", image_size=SIZE, mask_size=32)
    encoder = load_encoder(encoder_settings, device="cpu")
    segmenter = fit_segmenter(
        artifact(tmp_path_factory.mktemp("segmenter") / "segmenter"),
        settings=settings,
        encoder_settings=encoder_settings,
        photos=SimpleNamespace(shard_keys=()),  # type: ignore[arg-type]  # a checkpoint is not fitted on any
        device=torch.device("cpu"),
    )

    def views(images: list[Image.Image], frame: pd.DataFrame) -> MadeViews:
        encoded = [encoder.encode(images[start : start + 16]) for start in range(0, len(images), 16)]
        maps = np.concatenate([resize_labels(segmenter.segment([image]), GRID) for image in images])
        return MadeViews(
            frame=frame,
            pooled_nd=torch.cat([part.pooled_bd.half() for part in encoded]),
            tokens_ntd=torch.cat([part.tokens_btd.half() for part in encoded]),
            label_maps_nhw=torch.from_numpy(maps),
            fingerprint="seen",
            classes=len(CLASSES),
        )

    return views


def test_photos_of_another_kind_are_refused_and_drawn_ones_are_not(eye, tmp_path: Path) -> None:
    images, frame = drawn("gallery", GALLERY)
    gallery = eye(images, frame.assign(author=[f"a{row % PHOTOGRAPHERS}" for row in range(GALLERY)]))
    pooled = gallery.pooled_nd.float()
    made = artifact(tmp_path / "index", recipe="Flat")
    build_index(
        made, shards=[OneShard((pooled / pooled.norm(dim=1, keepdim=True)).numpy())], settings=RetrievalSettings()
    )
    retriever = Retriever(
        representation="encoder",
        model=None,
        index=GalleryIndex.open(made.path),
        gallery=gallery,
        settings=RetrievalSettings(),
        device=torch.device("cpu"),
    )
    refiner = fit_refiner(candidates=retriever.candidates(gallery), answers=None, truth=gallery.frame)

    def statuses(images: list[Image.Image]) -> pd.Series:
        ids = [f"q{row}" for row in range(len(images))]
        found = refine(retriever.candidates(eye(images, pd.DataFrame({"id": ids, "author": None}))), refiner)
        assert (found["status"] == "unlike_gallery").equals(found["latitude"].isna())
        return found["status"]

    assert (statuses(of_another_kind()) == "unlike_gallery").mean() >= 0.95
    assert (statuses(drawn("same_weather", 40)[0]) == "ok").mean() >= 0.95
    assert (statuses(drawn("same_weather", 40, seed=8)[0]) == "ok").mean() >= 0.9, "other streets, drawn alike"
