"""The FAISS index over the gallery: extended shard by shard, searched without a query's own photographer.

`Flat` searches exactly. Every other index proposes rows, whose stored vectors are then compared exactly. Its search
effort is the least that finds the required share of the nearest photos.
"""

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.artifacts import Artifact, damaged_files, new_artifact, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import reading, take_over
from dualgeo_core.retrieval.embeddings import EmbeddingShard, StoredVectors, Vectors
from dualgeo_core.retrieval.recall import Search, least_effort, recall_sample
from dualgeo_core.settings import AUTO_INDEX, INDEX_TRAINING_PHOTOS, RetrievalSettings

try:
    faiss: Any = importlib.import_module("faiss")
except ImportError:
    raise InputError("faiss is not installed; run pip install 'dualgeo[cpu]' or pip install 'dualgeo[gpu]'") from None

INDEX_FILE, VECTORS = "index.faiss", "vectors"
EXACT = "Flat"
PROPOSED = 5  # rows that an approximate index proposes, for each row asked for
SPARE = 30  # rows found beyond those asked for, in place of photos by the query's own photographer
SAMPLE_QUERIES, BUILD_SAMPLE, CHECK_SAMPLE = 1000, 0, 1  # queries to measure recall with; seeds of two samples
_LEARNING_PHOTOS_PER_LIST = 64
_RANKED_ROWS = 8192  # proposed rows whose vectors are in memory at once


def build_index(artifact: Artifact, *, shards: Sequence[EmbeddingShard], settings: RetrievalSettings) -> dict[str, int]:
    """Writes the inner-product index of `shards` to `artifact`; returns the rows `computed` now and the rows reused.

    An intact index over the first of these shards is extended by the others. It is rebuilt if it has other shards, or
    if it is trained (IVF, PQ, SQ) and the gallery is more than twice as large as when it was trained. The count of
    reused rows is `taken_over`. An approximate index learns from a sample of all shards, and its record has the search
    effort and the measured recall. In addition to the index, memory holds one shard, or the sample. Raises InputError
    if there are no shards or FAISS rejects the specification.
    """
    if not shards:
        raise InputError(
            f"the index {artifact.path} cannot be built because the gallery has no photos; import photos first"
        )
    photos = sum(map(len, shards))
    if artifact.is_current():
        return {"computed": 0, "taken_over": photos}
    specification = _specification(settings, photos=photos, width=shards[0].width)
    grown = _extendable(shards, artifact.path, specification)
    index = _read(artifact.path) if grown else _new_index(shards[0].width, specification)
    taken_over, learns = index.ntotal, not index.is_trained
    if learns:
        _learn(index, shards, specification)
    for shard in shards[len(grown["shards"]) if grown else 0 :]:
        index.add(shard.vectors())
    facts = {
        "rows": index.ntotal,
        "specification": specification,
        "shards": [shard.sha256 for shard in shards],
        "learned_from": index.ntotal if learns else (grown or {}).get("learned_from"),
    }
    if specification != EXACT:
        facts |= _measured(index, StoredVectors([shard.path for shard in shards]), settings)
    with new_artifact(artifact, facts) as folder:
        _write(index, folder / INDEX_FILE)
        for number, shard in enumerate(shards if specification != EXACT else ()):
            (folder / VECTORS).mkdir(exist_ok=True)
            take_over(shard.path, folder / VECTORS / f"{number:06}.safetensors")
    return {"computed": index.ntotal - taken_over, "taken_over": taken_over}


def _specification(settings: RetrievalSettings, *, photos: int, width: int) -> str:
    """The FAISS factory string for a gallery; `auto` is exact while its vectors fit into memory.

    Otherwise about 4 sqrt(photos) lists of 4-bit product codes, about a thirtieth of the memory.
    """
    if settings.index != AUTO_INDEX:
        return settings.index
    if 4 * photos * width <= settings.index_memory_gb * 1e9:
        return EXACT
    lists = 2 ** round(math.log2(4 * math.sqrt(photos)))
    return f"IVF{lists},PQ{width // 4}x4fs" if width % 4 == 0 else f"IVF{lists},SQ8"


def _measured(index: Any, stored: StoredVectors, settings: RetrievalSettings) -> dict[str, float]:
    """The search effort that reaches the required recall, and the recall."""
    sample = recall_sample(stored, queries=SAMPLE_QUERIES, seed=BUILD_SAMPLE)
    effort, recall = least_effort(
        sample,
        search=lambda effort: _proposing(index, stored, effort),
        efforts=_efforts(index),
        least_recall=settings.least_recall,
    )
    return {"effort": effort, "recall_at_20": round(recall, 4)}


def _efforts(index: Any) -> list[int]:
    """Efforts to try, from the least on: IVF lists, or HNSW candidates; one for an index without such a choice."""
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        return sorted({*(2**power for power in range(1, ivf.nlist.bit_length())), ivf.nlist})
    return [2**power for power in range(6, 13)] if _hnsw(index) is not None else [1]


def _proposing(index: Any, stored: StoredVectors, effort: int) -> Search:
    def search(vectors: Vectors, k: int) -> NDArray[np.int64]:
        return GalleryIndex(index, stored=stored, effort=effort).search(vectors, k).rows

    return search


def _extendable(shards: Sequence[EmbeddingShard], folder: Path, specification: str) -> dict[str, Any] | None:
    """The recorded facts of an intact index in `folder` if `shards` extend it; otherwise None."""
    record = read_record(folder)
    if record is None or record.facts.get("specification") != specification:
        return None
    indexed = record.facts.get("shards")
    if not isinstance(indexed, list) or [shard.sha256 for shard in shards[: len(indexed)]] != indexed:
        return None
    if damaged_files(folder, record):
        return None
    learned_from = record.facts.get("learned_from")
    outgrown = learned_from is not None and sum(map(len, shards)) > 2 * learned_from
    return None if outgrown else record.facts


def _read(folder: Path) -> Any:
    with reading(folder / INDEX_FILE, remedy="run the step gallery_index again"):
        return faiss.read_index(str(folder / INDEX_FILE))


def _write(index: Any, path: Path) -> None:
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise InputError(f"{path.parent} cannot be written ({_faiss_message(error)}); free space on its disk") from None


def _new_index(width: int, specification: str) -> Any:
    try:
        return faiss.index_factory(width, specification, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise InputError(
            f"retrieval.index {specification} is not a FAISS factory string: {_faiss_message(error)}; "
            "use one such as Flat, HNSW32 or IVF1024,SQ8"
        ) from None


def _faiss_message(error: RuntimeError) -> str:
    """FAISS's message without the location in its source code."""
    return str(error).rpartition("Error: ")[2].strip()


def _learn(index: Any, shards: Sequence[EmbeddingShard], specification: str) -> None:
    """Trains the index on a sample of all shards, in proportion to their sizes."""
    photos = sum(map(len, shards))
    ivf = faiss.try_extract_index_ivf(index)
    wanted = max(_LEARNING_PHOTOS_PER_LIST * ivf.nlist, 65_536) if ivf is not None else 65_536
    share = min(1.0, min(wanted, INDEX_TRAINING_PHOTOS) / photos)
    random = np.random.default_rng(0)
    sample = []
    for shard in shards:
        vectors = shard.vectors()
        sample.append(vectors[np.sort(random.permutation(len(vectors))[: math.ceil(share * len(vectors))])])
    try:
        index.train(np.concatenate(sample))
    except RuntimeError as error:
        raise InputError(
            f"retrieval.index {specification} cannot be trained on {sum(map(len, sample))} photos: "
            f"{_faiss_message(error)}; use fewer clusters, or auto"
        ) from None


class Neighbours(NamedTuple):
    """Gallery rows and inner products of each query, best first, both (queries, k); row -1 means no result."""

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]


class GalleryIndex:
    """An index in memory. An approximate one has the stored vectors, which are memory-mapped, and its search effort."""

    def __init__(self, index: Any, *, stored: StoredVectors | None = None, effort: int | None = None) -> None:
        self._index, self.stored, self._effort = index, stored, effort
        if effort is not None:
            _set_effort(index, effort)

    @classmethod
    def open(cls, folder: Path) -> "GalleryIndex":
        """The index in a folder that `build_index` wrote. Raises InputError if it cannot be read."""
        paths, record = sorted((folder / VECTORS).glob("*.safetensors")), read_record(folder)
        if not paths:
            return cls(_read(folder))
        if record is None or "effort" not in record.facts:
            raise InputError(
                f"{folder} does not record the search effort of its index; run the step gallery_index again"
            )
        return cls(_read(folder), stored=StoredVectors(paths), effort=record.facts["effort"])

    def search(self, vectors: Vectors, k: int) -> Neighbours:
        """The `k` gallery rows nearest to each of `vectors` (n, d)."""
        if self.stored is None:
            similarity, rows = self._index.search(vectors, k)
            return Neighbours(rows=rows, similarity=similarity)
        at_once = max(1, _RANKED_ROWS // (PROPOSED * k))
        parts = [self._ranked(vectors[start : start + at_once], k) for start in range(0, max(len(vectors), 1), at_once)]
        return Neighbours(*map(np.concatenate, zip(*parts, strict=True)))

    def search_others(
        self, vectors: Vectors, k: int, query_authors: "pd.Series[str]", gallery_authors: "pd.Series[str]"
    ) -> Neighbours:
        """As `search`, without photos by each query's photographer; an unknown photographer (null) excludes nothing."""
        rows = np.full((len(vectors), k), -1, dtype=np.int64)
        similarity = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        own = query_authors.astype(object).where(query_authors.notna(), None).to_numpy()[:, None]
        authors = gallery_authors.to_numpy()
        asked, reach, effort = np.arange(len(vectors)), k + SPARE, self._effort
        while len(asked):
            found = self.search(vectors[asked], min(reach, self._index.ntotal))
            theirs = (authors[found.rows] == own[asked]) & (own[asked] != None)  # noqa: E711 - elementwise
            others = (found.rows >= 0) & ~theirs
            first = np.argsort(~others, axis=1, kind="stable")[:, :k]
            kept = np.take_along_axis(others, first, axis=1)
            width = first.shape[1]
            rows[asked, :width] = np.where(kept, np.take_along_axis(found.rows, first, axis=1), -1)
            similarity[asked, :width] = np.where(kept, np.take_along_axis(found.similarity, first, axis=1), -np.inf)
            more = (others.sum(axis=1) < k) & (reach < self._index.ntotal)
            asked, reach, effort = asked[more], 4 * reach, effort and 4 * effort
            if effort and len(asked):
                _set_effort(self._index, effort)
        if self._effort is not None:
            _set_effort(self._index, self._effort)
        return Neighbours(rows=rows, similarity=similarity)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """The vectors (n, d) of `rows`."""
        return np.asarray(self._index.reconstruct_batch(rows)) if self.stored is None else self.stored.rows(rows)

    def _ranked(self, vectors: Vectors, k: int) -> Neighbours:
        """The best of the proposed rows, by their stored vectors."""
        assert self.stored is not None
        _, proposed = self._index.search(vectors, min(PROPOSED * k, self._index.ntotal))
        unique, place = np.unique(proposed.clip(min=0), return_inverse=True)
        similarity = np.einsum("qd,qpd->qp", vectors, self.stored.rows(unique)[place.reshape(proposed.shape)])
        similarity = np.where(proposed < 0, -np.inf, similarity).astype(np.float32)
        best = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        return Neighbours(
            rows=np.take_along_axis(proposed, best, axis=1), similarity=np.take_along_axis(similarity, best, axis=1)
        )


def measured_recall(folder: Path) -> float:
    """The recall of an index's search, measured on other gallery photos than at its build; 1 if it searches exactly."""
    if not (folder / VECTORS).is_dir():
        return 1.0
    index = GalleryIndex.open(folder)
    assert index.stored is not None
    sample = recall_sample(index.stored, queries=SAMPLE_QUERIES, seed=CHECK_SAMPLE)
    return sample.recall(lambda vectors, k: index.search(vectors, k).rows)


def _set_effort(index: Any, effort: int) -> None:
    """Sets the search effort: IVF lists, with enough candidates in the graph that finds them, or HNSW candidates."""
    space, ivf = faiss.ParameterSpace(), faiss.try_extract_index_ivf(index)
    if ivf is None:
        hnsw = _hnsw(index)
        if hnsw is not None:
            hnsw.efSearch = effort
        return
    space.set_index_parameter(index, "nprobe", min(effort, ivf.nlist))
    if isinstance(faiss.downcast_index(ivf.quantizer), faiss.IndexHNSW):
        space.set_index_parameter(index, "quantizer_efSearch", 2 * effort)


def _hnsw(index: Any) -> Any:
    """The graph of an HNSW index, also behind a transform; None for other indexes."""
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    return inner.hnsw if isinstance(inner, faiss.IndexHNSW) else None
