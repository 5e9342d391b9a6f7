"""Retrieval: the index against a naive search, leakage kept out, and what something else made refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_views import make_views

from dualgeo_core.errors import InputError
from dualgeo_core.model.embed import embed_for_places, gps_scores
from dualgeo_core.model.fusion import Architecture, new_model
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.retrieval.embeddings import read_embeddings, write_embeddings
from dualgeo_core.retrieval.gps_evidence import with_gps_scores
from dualgeo_core.retrieval.index import GalleryIndex, build_index
from dualgeo_core.settings import ModelSettings, RetrievalSettings


def unit(random: np.random.Generator, count: int, width: int = 16) -> np.ndarray:
    vectors = random.normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(0), 200)


def index_of(folder: Path, vectors: np.ndarray, specification: str = "Flat") -> GalleryIndex:
    build_index(folder=folder, shards=[vectors[:120], vectors[120:]], specification=specification, signature="made")
    return GalleryIndex(folder=folder, signature="made", probes=64)


@pytest.mark.parametrize("specification", ["Flat", "HNSW16", "IVF4,Flat"])
def test_index_finds_what_a_naive_search_finds(tmp_path: Path, vectors: np.ndarray, specification: str) -> None:
    queries = unit(np.random.default_rng(1), 20)
    found = index_of(tmp_path / "index", vectors, specification).search(queries, k=5)
    expected = np.argsort(-queries @ vectors.T, axis=1)[:, :5]
    assert (found.rows == expected).mean() > (0.99 if specification != "HNSW16" else 0.9)
    assert found.similarity[0] == pytest.approx(np.sort(queries[0] @ vectors.T)[::-1][:5], abs=1e-5)


@pytest.mark.parametrize("specification", ["Flat", "HNSW16", "IVF4,Flat"])
def test_own_photographer_is_left_out(tmp_path: Path, vectors: np.ndarray, specification: str) -> None:
    authors = pd.Series(["ann", "bob", "cat", None] * 50)
    query_authors = pd.Series(["ann", "zoe", None])
    queries = vectors[[0, 1, 3]]  # each is a gallery photo itself
    found = index_of(tmp_path / "index", vectors, specification).search_others(queries, 10, query_authors, authors)
    assert "ann" not in authors.iloc[found.rows[0]].tolist()
    assert found.rows[1, 0] == 1, "a photographer who is not in the gallery excludes nothing"
    assert found.rows[2, 0] == 3, "an unknown photographer excludes nothing"


def test_near_duplicates_are_no_candidates(tmp_path: Path) -> None:
    gallery = make_views(places=10, photos_per_place=6)
    queries = make_views(places=10, photos_per_place=6)  # the very same photos, by names that are not the gallery's
    queries.frame["author"] = "somebody else"
    vectors = unit(np.random.default_rng(2), 60)
    settings = RetrievalSettings(candidates=5, near_duplicate_similarity=0.999)
    retriever = Retriever(index=index_of(tmp_path / "index", vectors), gallery=gallery, settings=settings)
    kept = retriever.candidates(queries=queries, vectors=vectors)
    similar = kept[kept["kind"] == "similar"]
    leaking = retriever.unfiltered_candidates(queries=queries, vectors=vectors)
    row_of = pd.Series(np.arange(60), index=queries.frame["id"])
    assert (leaking.groupby("id")["gallery_row"].first() == row_of.reindex(leaking["id"].unique())).all()
    assert (similar["gallery_row"].to_numpy() != row_of[similar["id"]].to_numpy()).all()
    assert (similar.groupby("id")["rank"].max() == 5).all(), "what was left out is made up for"


def test_dissimilar_candidates_are_the_least_similar_of_other_photographers(
    tmp_path: Path, vectors: np.ndarray
) -> None:
    gallery = make_views(places=50, photos_per_place=4)
    queries = make_views(places=1, photos_per_place=4, seed=1)
    asked = unit(np.random.default_rng(3), 4)
    retriever = Retriever(
        index=index_of(tmp_path / "index", vectors), gallery=gallery, settings=RetrievalSettings(candidates=3)
    )
    found = retriever.candidates(queries=queries, vectors=asked)
    first = found[(found["kind"] == "dissimilar") & (found["id"] == queries.frame["id"][0])]
    least_first = np.argsort(asked[0] @ vectors.T)
    others = least_first[gallery.frame["author"].to_numpy()[least_first] != queries.frame["author"][0]]
    assert first["gallery_row"].tolist() == others[:3].tolist()


def test_index_of_something_else_is_refused(tmp_path: Path, vectors: np.ndarray) -> None:
    index_of(tmp_path / "index", vectors)
    with pytest.raises(InputError, match="made by made, but other is asked for: materialize gallery_index again"):
        GalleryIndex(folder=tmp_path / "index", signature="other", probes=1)


def test_embeddings_round_trip_and_refuse_another_signature(tmp_path: Path, vectors: np.ndarray) -> None:
    folder = tmp_path / "embeddings"
    write_embeddings(folder=folder, count=200, embed=lambda rows: vectors[rows], signature="a")
    assert np.concatenate(list(read_embeddings(folder, "a"))) == pytest.approx(vectors, abs=2e-3)
    with pytest.raises(InputError, match="materialize gallery_embeddings again"):
        list(read_embeddings(folder, "b"))


def test_embeddings_that_are_not_finite_leave_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "embeddings"
    with pytest.raises(InputError, match="not finite"):
        write_embeddings(folder=folder, count=3, embed=lambda rows: np.full((3, 4), np.nan), signature="a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("specification", ["Flat", "HNSW16", "IVF4,Flat"])
def test_a_photo_near_to_everything_is_marked_down(tmp_path: Path, specification: str) -> None:
    """CSLS against a naive computation, and on a gallery whose hub every query finds first without it."""
    random = np.random.default_rng(3)
    queries = make_views(places=30, photos_per_place=6)
    queries.frame["author"] = "somebody else"
    gallery = make_views(places=30, photos_per_place=6, seed=1)
    gallery.frame["author"] = [f"own-{row}" for row in range(180)]
    shared = unit(random, 1)
    vectors = unit(random, 180) + 2 * shared
    vectors[17] = 10 * shared[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = vectors + 0.3 * unit(random, 180)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)

    def ranked(neighbours: int) -> pd.DataFrame:
        settings = RetrievalSettings(candidates=5, hubness_neighbours=neighbours)
        index = index_of(tmp_path / f"index-{neighbours}", vectors, specification)
        found = Retriever(index=index, gallery=gallery, settings=settings).candidates(queries=queries, vectors=asked)
        return found[(found["kind"] == "similar") & (found["rank"] == 1)]

    plain, corrected = ranked(0), ranked(10)
    assert (plain["gallery_row"] == 17).mean() > 2 * (corrected["gallery_row"] == 17).mean()
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -np.inf)
    crowding = np.sort(cosine, axis=1)[:, -10:].mean(axis=1)
    expected = (2 * asked @ vectors.T - crowding).argmax(axis=1)
    assert (corrected["gallery_row"].to_numpy() == expected).mean() > (0.85 if specification == "HNSW16" else 0.97)


def test_gps_scores_are_of_the_right_photo_and_place() -> None:
    queries = make_views(places=3, photos_per_place=4)
    settings = ModelSettings(width=16, heads=2, label_grid=16, gps_hidden=16)
    architecture = Architecture.of(
        settings=settings,
        variant="cross_attention",
        encoder_width=queries.width,
        image_tokens=queries.tokens_per_photo,
        classes=queries.classes,
    )
    model = new_model(architecture=architecture, gps_weights="random", seed=0).eval()
    rows = np.array([7, 2])
    candidates = pd.DataFrame(
        {
            "id": queries.frame["id"].iloc[[2, 7, 2]].to_numpy(),
            "latitude": [10.0, -20.0, 48.0],
            "longitude": [5.0, 100.0, 2.0],
        }
    )
    found = with_gps_scores(candidates, model=model, queries=queries, rows=rows)["gps_score"].to_numpy()
    for row, photo, latitude, longitude in zip(range(3), (2, 7, 2), (10, -20, 48), (5, 100, 2), strict=True):
        alone = embed_for_places(model=model, views=queries, rows=np.array([photo]))
        expected = gps_scores(model, alone, np.array([latitude]), np.array([longitude]))[0, 0]
        assert found[row] == pytest.approx(expected, abs=1e-4)
    assert "gps_score" not in with_gps_scores(candidates, model=None, queries=queries, rows=rows)
