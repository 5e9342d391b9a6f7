"""Retrieval: the index compared with a naive search, leakage, and refusal of mismatched artifacts."""

import json
import tracemalloc
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from made_artifacts import artifact
from made_views import MadeViews, make_views

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.tensors import write_tensors
from dualgeo_core.model.embed import embed, gps_scores
from dualgeo_core.model.fusion import Architecture, new_model
from dualgeo_core.photos.photo_set import ShardKey
from dualgeo_core.retrieval import faiss_index
from dualgeo_core.retrieval.candidates import Retriever
from dualgeo_core.retrieval.embeddings import (
    EmbeddingShard,
    EmbeddingWriter,
    Vectors,
    build_embeddings,
    embedding_summary,
    read_embeddings,
)
from dualgeo_core.retrieval.faiss_index import INDEX_FILE, faiss, read_index
from dualgeo_core.retrieval.gps_evidence import with_gps_scores
from dualgeo_core.retrieval.index import GalleryIndex, measured_recall
from dualgeo_core.retrieval.index_build import build_index
from dualgeo_core.settings import ModelSettings, RetrievalSettings
from dualgeo_dagster.reporting.expectations import check_embeddings


def unit(random: np.random.Generator, count: int, width: int = 16) -> np.ndarray:
    vectors = random.normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(0), 200)


@dataclass(frozen=True)
class Gallery:
    """Views of `rows` photos in two shards, with only the attributes that embeddings read."""

    rows: int
    fingerprint: str = "views"

    @property
    def shard_keys(self) -> tuple[ShardKey, ...]:
        return ShardKey("a", "first", range(120)), ShardKey("b", "second", range(120, self.rows))


def shards_of(folder: Path, vectors: Vectors) -> list[EmbeddingShard]:
    made = artifact(folder)
    writer = EmbeddingWriter(Gallery(len(vectors)), embed=lambda rows: vectors[rows])
    build_embeddings(made, writer, shard_recipe="made")
    return read_embeddings(made)


class MadeShard:
    """Embeddings at full precision in memory and in a file, with a count of reads from memory."""

    def __init__(self, vectors: Vectors, path: Path) -> None:
        self._vectors, self.path, self.sha256, self.reads = vectors, path, path.stem, 0
        self.width = vectors.shape[1]
        write_tensors(path, {"vectors": torch.from_numpy(vectors)})

    def __len__(self) -> int:
        return len(self._vectors)

    def vectors(self) -> Vectors:
        self.reads += 1
        return self._vectors


def made_shards(folder: Path, vectors: Vectors, *ends: int) -> list[MadeShard]:
    """`vectors` up to the last of `ends`, one shard to each; their files are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = [0, *ends]
    return [MadeShard(vectors[start:end], folder / f"{start}-{end}.safetensors") for start, end in pairwise(starts)]


def index_of(folder: Path, vectors: np.ndarray, specification: str = "Flat", *, device: str = "cpu") -> GalleryIndex:
    shards = made_shards(folder.with_name("shards"), vectors, 120, len(vectors))
    grow_index(folder, shards, specification, device=device)
    return GalleryIndex.open(folder)


def grow_index(
    folder: Path, shards: list[MadeShard], specification: str = "Flat", *, device: str = "cpu"
) -> dict[str, int]:
    made = artifact(folder, recipe=specification, embeddings=" ".join(shard.sha256 for shard in shards))
    settings = RetrievalSettings.model_construct(index=specification, index_memory_gb=4.0, least_recall=0.95)
    return build_index(made, shards=shards, settings=settings, device=device)  # type: ignore[arg-type]


def seen_as(views: MadeViews, vectors: Vectors) -> MadeViews:
    """The same photos, to which the frozen encoder gave these vectors."""
    return replace(views, pooled_nd=torch.from_numpy(vectors), width=vectors.shape[1])


def retriever_of(index: GalleryIndex, gallery: MadeViews, settings: RetrievalSettings) -> Retriever:
    """A retriever of the representation `encoder`, whose vectors are the pooled ones."""
    device = torch.device("cpu")
    return Retriever(
        representation="encoder", model=None, index=index, gallery=gallery, settings=settings, device=device
    )


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
    vectors = embed(model=None, views=gallery, variant="encoder").search_nd  # type: ignore[arg-type]
    settings = RetrievalSettings(candidates=5, near_duplicate_similarity=0.999)
    retriever = retriever_of(index_of(tmp_path / "index", vectors), gallery, settings)
    kept = retriever.candidates(queries)
    similar = kept[kept["kind"] == "similar"]
    leaking = retriever.leaking_candidates(queries)
    row_of = pd.Series(np.arange(60), index=queries.frame["id"])
    assert (leaking.groupby("id")["gallery_row"].first() == row_of.reindex(leaking["id"].unique())).all()
    assert (similar["gallery_row"].to_numpy() != row_of[similar["id"]].to_numpy()).all()
    assert (similar.groupby("id")["rank"].max() == 5).all(), "what was left out is made up for"


def test_dissimilar_candidates_are_the_least_similar_of_other_photographers(
    tmp_path: Path, vectors: np.ndarray
) -> None:
    gallery = seen_as(make_views(places=50, photos_per_place=4), vectors)
    asked = unit(np.random.default_rng(3), 4)
    queries = seen_as(make_views(places=1, photos_per_place=4, seed=1), asked)
    retriever = retriever_of(index_of(tmp_path / "index", vectors), gallery, RetrievalSettings(candidates=3))
    found = retriever.candidates(queries)
    first = found[(found["kind"] == "dissimilar") & (found["id"] == queries.frame["id"][0])]
    least_first = np.argsort(asked[0] @ vectors.T)
    others = least_first[gallery.frame["author"].to_numpy()[least_first] != queries.frame["author"][0]]
    assert first["gallery_row"].tolist() == others[:3].tolist()


def test_index_that_cannot_be_read_is_one_line(tmp_path: Path, vectors: np.ndarray) -> None:
    index_of(tmp_path / "index", vectors)
    file = tmp_path / "index" / "index.faiss"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"index.faiss cannot be read \(.*\): run the step gallery_index again"):
        GalleryIndex.open(tmp_path / "index")


@pytest.mark.parametrize("specification", ["Flat", "HNSW16", "IVF4,Flat"])
def test_a_grown_index_reads_the_new_shards_only_and_finds_as_well(
    tmp_path: Path, vectors: np.ndarray, specification: str
) -> None:
    grow_index(tmp_path / "index", made_shards(tmp_path / "shards", vectors, 60, 110), specification)
    shards = made_shards(tmp_path / "shards", vectors, 60, 110, 160, 200)

    made = grow_index(tmp_path / "index", shards, specification)

    assert made == {"computed": 90, "taken_over": 110}
    assert [shard.reads for shard in shards] == [0, 0, 1, 1]
    grown = GalleryIndex.open(tmp_path / "index")
    fresh = index_of(tmp_path / "fresh", vectors, specification)
    queries = unit(np.random.default_rng(1), 20)
    found, expected = grown.search(queries, k=5), fresh.search(queries, k=5)
    assert (found.rows == expected.rows).mean() > (0.9 if specification == "HNSW16" else 0.999)
    np.testing.assert_allclose(grown.vectors(np.arange(200)), vectors, rtol=1e-5)


@pytest.mark.parametrize(
    ("ends", "specification"),
    [((60,), "Flat"), ((50, 110, 200), "Flat"), ((60, 110, 200), "HNSW8")],
    ids=["a shard is gone", "other shards", "another specification"],
)
def test_an_index_that_does_not_fit_is_built_anew(
    tmp_path: Path, vectors: np.ndarray, ends: tuple[int, ...], specification: str
) -> None:
    grow_index(tmp_path / "index", made_shards(tmp_path / "shards", vectors, 60, 110))
    assert grow_index(tmp_path / "index", made_shards(tmp_path / "shards", vectors, *ends), specification) == {
        "computed": ends[-1],
        "taken_over": 0,
    }
    index = GalleryIndex.open(tmp_path / "index")
    np.testing.assert_allclose(index.vectors(np.arange(ends[-1])), vectors[: ends[-1]], rtol=1e-5)


@pytest.mark.parametrize("fact", ["specification", "shards", "learned_from"])
def test_an_index_whose_record_lacks_a_fact_is_made_again(tmp_path: Path, vectors: np.ndarray, fact: str) -> None:
    grow_index(tmp_path / "index", made_shards(tmp_path / "shards", vectors, 60, 110))
    record = json.loads((tmp_path / "index" / "record.json").read_text())
    del record["facts"][fact]
    (tmp_path / "index" / "record.json").write_text(json.dumps(record))
    made = grow_index(tmp_path / "index", made_shards(tmp_path / "shards", vectors, 60, 110, 120))
    assert made["computed"] + made["taken_over"] == 120
    assert (made["taken_over"] == 0) == (fact != "learned_from")


def test_an_index_that_learned_learns_anew_once_the_gallery_is_twice_as_large(
    tmp_path: Path, vectors: np.ndarray
) -> None:
    """The size at training counts, not the size after later additions."""
    taken_over = [
        grow_index(tmp_path / "index", made_shards(tmp_path / "shards", vectors, *range(40, rows + 1, 20)), "IVF4,SQ8")[
            "taken_over"
        ]
        for rows in (40, 60, 80, 100, 120, 200)
    ]
    assert taken_over == [0, 40, 60, 0, 100, 120]


def test_embeddings_round_trip_and_refuse_another_signature(tmp_path: Path, vectors: np.ndarray) -> None:
    folder = tmp_path / "embeddings"
    shards = shards_of(folder, vectors)
    assert [len(shard) for shard in shards] == [120, 80]
    assert np.concatenate([shard.vectors() for shard in shards]) == pytest.approx(vectors, abs=2e-3)
    with pytest.raises(InputError, match="run the step gallery_embeddings again"):
        read_embeddings(artifact(folder, step="gallery_embeddings", views="others"))


def test_embeddings_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "embeddings"
    with pytest.raises(InputError, match="not finite"):
        shards_of(folder, np.full((130, 4), np.nan, dtype=np.float32))
    assert not folder.exists()


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
    queries, gallery = seen_as(queries, asked), seen_as(gallery, vectors)

    def ranked(neighbours: int) -> pd.DataFrame:
        settings = RetrievalSettings(candidates=5, hubness_neighbours=neighbours)
        index = index_of(tmp_path / f"index-{neighbours}", vectors, specification)
        found = retriever_of(index, gallery, settings).candidates(queries)
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
        variant="joint",
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
    photos = embed(model=model, views=queries, variant="joint", rows=rows).places_nd
    assert photos is not None
    ids = queries.frame["id"].iloc[rows].to_numpy()
    found = with_gps_scores(candidates, model=model, photos_nd=photos, ids=ids)["gps_score"].to_numpy()
    for row, photo, latitude, longitude in zip(range(3), (2, 7, 2), (10, -20, 48), (5, 100, 2), strict=True):
        alone = embed(model=model, views=queries, variant="joint", rows=np.array([photo])).places_nd
        assert alone is not None
        expected = gps_scores(model, alone, np.array([latitude]), np.array([longitude]))[0, 0]
        assert found[row] == pytest.approx(expected, abs=1e-4)
    assert embed(model=None, views=queries, variant="encoder").places_nd is None


USABLE = [
    *("Flat", "SQ4", "SQ6", "SQ8", "SQfp16", "SQbf16", "HNSW", "HNSW2", "HNSW16,Flat", "HNSW8_SQ8", "HNSW8,SQfp16"),
    *("HNSW8,PQ4", "HNSW8_PQ4", "IVF4,Flat", "IVF4,SQ4", "IVF4,SQ6", "IVF4,SQ8", "IVF4,SQfp16", "IVF4,SQbf16"),
    *("IVF4,PQ4", "IVF4,PQ4x8", "IVF4,PQ4x4fs", "IVF4_HNSW,Flat", "IVF4_HNSW8,PQ4", "IVF4_HNSW8,SQ8"),
    *("PCA8,IVF4,SQ8", "OPQ4_8,IVF4,PQ4", "RR16,IVF4,RaBitQ", "RR16,IVF4,RaBitQ4", "PCA8,HNSW8", "OPQ4,SQ8"),
]


@pytest.mark.parametrize("specification", USABLE)
def test_every_index_that_settings_accept_leaves_the_own_photographer_out(tmp_path: Path, specification: str) -> None:
    """Ann took a third of the gallery and all queries; the other photos are found as by exact search."""
    assert RetrievalSettings(index=specification).index == specification
    vectors = unit(np.random.default_rng(0), 300)
    index = index_of(tmp_path / "index", vectors, specification)
    authors, asked = pd.Series(["ann"] * 100 + ["bob"] * 200), pd.Series(["ann"] * 20)
    found = index.search_others(vectors[:20], 10, asked, authors)
    assert (found.rows >= 100).all()
    exact = np.argsort(-vectors[:20] @ vectors[100:].T, axis=1)[:, :10] + 100
    hits = [np.isin(rows, found).mean() for rows, found in zip(exact, found.rows, strict=True)]
    assert np.mean(hits) > (0.6 if "HNSW2" in specification else 0.85)
    assert found.similarity == pytest.approx(np.einsum("qd,qkd->qk", vectors[:20], vectors[found.rows]), abs=1e-5)
    assert index.vectors(np.array([3, 150])) == pytest.approx(vectors[[3, 150]], abs=1e-6)


def test_a_photographer_of_nearly_all_photos_is_left_out(tmp_path: Path, vectors: np.ndarray) -> None:
    authors = pd.Series(["ann"] * 197 + ["bob"] * 3)
    found = index_of(tmp_path / "index", vectors).search_others(vectors[:4], 5, pd.Series(["ann"] * 4), authors)
    assert np.sort(found.rows, axis=1).tolist() == [[-1, -1, 197, 198, 199]] * 4


def test_others_are_found_beyond_the_lists_that_the_own_photographer_fills(tmp_path: Path) -> None:
    """Ann took all photos near her query; those of Bob lie in lists that the usual effort does not reach."""
    random = np.random.default_rng(0)
    centres = unit(random, 16)
    vectors = np.repeat(centres, 100, axis=0) + 0.05 * unit(random, 1600)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    authors = pd.Series(["ann"] * 800 + ["bob"] * 800)
    index = index_of(tmp_path / "index", vectors, "IVF16,SQ8")
    found = index.search_others(vectors[:3], 20, pd.Series(["ann"] * 3), authors)
    assert (found.rows >= 800).all()
    exact = np.argsort(-vectors[:3] @ vectors[800:].T, axis=1)[:, :20] + 800
    assert np.mean([np.isin(rows, others).mean() for rows, others in zip(exact, found.rows, strict=True)]) > 0.9


@pytest.mark.parametrize("specification", ["IVF16,SQ8", "IVF16,PQ4x4fs", "IVF16_HNSW8,SQ8", "PCA8,IVF16,SQ8"])
def test_an_index_that_learns_on_a_gpu_is_written_and_searched_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, specification: str
) -> None:
    """A clone on the CPU stands for the copy on the GPU, which no test machine has."""
    vectors = unit(np.random.default_rng(0), 1000)
    index_of(tmp_path / "alone", vectors, specification)
    compared = []

    def clone(index: Any) -> Any:
        compared.append(faiss.clone_index(index))
        return compared[-1]

    monkeypatch.setattr(faiss_index, "gpus", lambda: 1)
    monkeypatch.setattr(faiss_index, "on_gpu", clone)
    index_of(tmp_path / "kept", vectors, specification)
    assert not compared, "a profile on the CPU leaves the GPU alone"
    index_of(tmp_path / "helped", vectors, specification, device="cuda")
    assert compared[0].ntotal == 16, "it held the centres"
    assert (tmp_path / "helped" / INDEX_FILE).read_bytes() == (tmp_path / "alone" / INDEX_FILE).read_bytes()


@pytest.mark.parametrize("specification", ["Flat", "IVF16,SQ8", "IVF16,PQ4x4fs", "HNSW16", "PCA8,IVF16,SQ8"])
def test_an_open_index_is_mapped_and_finds_what_it_finds_in_memory(tmp_path: Path, specification: str) -> None:
    vectors = unit(np.random.default_rng(0), 2000)
    index = index_of(tmp_path / "index", vectors, specification)
    assert any(part.path.endswith("index/index.faiss") for part in psutil.Process().memory_maps())
    in_memory = GalleryIndex(read_index(tmp_path / "index"), stored=index.stored, effort=index._effort)
    assert np.array_equal(index.search(vectors[:50], 10).rows, in_memory.search(vectors[:50], 10).rows)
    assert np.allclose(index.vectors(np.arange(3)), vectors[:3], atol=1e-3)


def test_auto_searches_exactly_while_the_vectors_fit_and_says_what_it_misses_above_that(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    centres = unit(random, 60)
    vectors = np.repeat(centres, 50, axis=0) + 0.1 * unit(random, 3000)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shards = made_shards(tmp_path / "shards", vectors, 1500, 3000)
    found = {}
    for name, memory_gb in (("large", 1.0), ("small", 1e-6)):
        made = artifact(tmp_path / name, recipe=name)
        settings = RetrievalSettings(index_memory_gb=memory_gb, least_recall=0.97)
        build_index(made, shards=shards, settings=settings)  # type: ignore[arg-type]
        found[name] = made.require().facts
    assert found["large"]["specification"] == "Flat"
    assert "effort" not in found["large"]
    assert found["small"]["specification"] == "IVF256,PQ4x4fs"
    assert found["small"]["recall_at_20"] >= 0.97
    assert measured_recall(tmp_path / "small") == pytest.approx(found["small"]["recall_at_20"], abs=0.03)
    assert measured_recall(tmp_path / "large") == 1


def test_more_recall_takes_more_effort(tmp_path: Path) -> None:
    shards = made_shards(tmp_path / "shards", unit(np.random.default_rng(0), 2000), 2000)
    efforts = []
    for least_recall in (0.3, 0.6, 0.9):
        made = artifact(tmp_path / str(least_recall))
        settings = RetrievalSettings(index="IVF64,SQ8", least_recall=least_recall)
        build_index(made, shards=shards, settings=settings)  # type: ignore[arg-type]
        facts = made.require().facts
        assert facts["recall_at_20"] >= least_recall
        efforts.append(facts["effort"])
    assert efforts == sorted(set(efforts))


def test_embeddings_are_compared_over_all_shards_with_little_memory(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0), 30_000, width=64)
    folders = {"one": tmp_path / "one", "same": tmp_path / "same"}
    for folder in folders.values():
        folder.mkdir()
    for number in range(30):
        rows = torch.from_numpy(vectors[number * 1000 : (number + 1) * 1000].astype(np.float16))
        write_tensors(folders["one"] / f"{number:02d}.safetensors", {"vectors": rows})
        write_tensors(folders["same"] / f"{number:02d}.safetensors", {"vectors": rows[:1] * 0 + 0.125})
    tracemalloc.start()
    summary = embedding_summary(folders)
    assert tracemalloc.get_traced_memory()[1] < vectors.nbytes / 4
    tracemalloc.stop()
    stored = vectors.astype(np.float16).astype(np.float32)
    expected = stored @ stored.mean(axis=0) / np.linalg.norm(stored, axis=1) / np.linalg.norm(stored.mean(axis=0))
    found = summary[summary["representation"] == "one"]
    np.testing.assert_allclose(found["cosine_to_mean"], expected, atol=1e-4)
    np.testing.assert_allclose(found["norm"], 1, atol=1e-3)
    assert summary[summary["representation"] == "same"]["cosine_to_mean"].tolist() == pytest.approx([1] * 30)


def test_shards_of_one_photo_pass_the_check_of_embeddings(tmp_path: Path) -> None:
    for number, vector in enumerate(unit(np.random.default_rng(0), 12)):
        write_tensors(tmp_path / f"{number:02d}.safetensors", {"vectors": torch.from_numpy(vector[None].astype("f2"))})
    summary = embedding_summary({"encoder": tmp_path})
    assert check_embeddings(summary, photos=12, representations=1).passed
    collapsed = summary.assign(cosine_to_mean=1.0)
    assert not check_embeddings(collapsed, photos=12, representations=1).passed


@pytest.mark.parametrize(
    ("specification", "fault"),
    [
        ("Nonsense", "Nonsense is not a FAISS factory string"),
        ("IVF4096,Flat", "IVF4096,Flat cannot be trained on 200 photos"),
    ],
)
def test_an_index_string_that_does_not_fit_is_said_in_one_line(
    tmp_path: Path, vectors: np.ndarray, specification: str, fault: str
) -> None:
    with pytest.raises(InputError, match=f"retrieval.index {fault}: [^\n]+"):
        grow_index(tmp_path / "index", made_shards(tmp_path / "shards", vectors, len(vectors)), specification)
