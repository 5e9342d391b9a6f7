"""The FAISS index over the gallery: extended shard by shard, searched without a query's own photographer."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.artifacts import Artifact, damaged_files, new_artifact, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import reading
from dualgeo_core.retrieval.embeddings import EmbeddingShard, Vectors
from dualgeo_core.settings import INDEX_TRAINING_PHOTOS

try:
    faiss: Any = importlib.import_module("faiss")
except ImportError:
    raise InputError("faiss is not installed; run pip install 'dualgeo[cpu]' or pip install 'dualgeo[gpu]'") from None

INDEX_FILE = "index.faiss"


def build_index(artifact: Artifact, *, shards: Sequence[EmbeddingShard], specification: str) -> dict[str, int]:
    """Writes the inner-product index of `shards` to `artifact`; returns the rows `computed` now and the rows reused.

    `specification` is a FAISS factory string. An intact index over the first of these shards is extended by the others.
    It is rebuilt if it has other shards, or if it is trained (IVF, PQ, SQ) and the gallery is more than twice as large
    as when it was trained. The count of reused rows is `taken_over`. In addition to the index, memory holds one shard,
    or about INDEX_TRAINING_PHOTOS rows while an index is trained. Raises InputError if there are no shards or FAISS
    rejects the specification.
    """
    if not shards:
        raise InputError(
            f"the index {artifact.path} cannot be built because the gallery has no photos; import photos first"
        )
    if artifact.is_current():
        return {"computed": 0, "taken_over": sum(map(len, shards))}
    grown = _extendable(shards, artifact.path, specification)
    index = _read(artifact.path) if grown else _new_index(shards[0].vectors().shape[1], specification)
    indexed = len(grown["shards"]) if grown else 0
    taken_over, learns = index.ntotal, not index.is_trained
    _add(index, shards[indexed:], specification)
    facts = {
        "rows": index.ntotal,
        "specification": specification,
        "shards": [shard.sha256 for shard in shards],
        "learned_from": index.ntotal if learns else (grown or {}).get("learned_from"),
    }
    with new_artifact(artifact, facts) as folder:
        _write(index, folder / INDEX_FILE)
    return {"computed": index.ntotal - taken_over, "taken_over": taken_over}


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


def _add(index: Any, shards: Sequence[EmbeddingShard], specification: str) -> None:
    untrained: list[Vectors] = []
    for shard in shards:
        if index.is_trained:
            index.add(shard.vectors())
            continue
        untrained.append(shard.vectors())
        if sum(map(len, untrained)) >= INDEX_TRAINING_PHOTOS or shard is shards[-1]:
            vectors = np.concatenate(untrained)
            try:
                index.train(vectors[:INDEX_TRAINING_PHOTOS])
            except RuntimeError as error:
                raise InputError(
                    f"retrieval.index {specification} cannot be trained on {len(vectors)} photos: "
                    f"{_faiss_message(error)}; use fewer clusters, or Flat"
                ) from None
            index.add(vectors)
            untrained.clear()


@dataclass(frozen=True)
class Neighbours:
    """Gallery rows and inner products of each query, best first, both (queries, k); row -1 means no result."""

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]


class GalleryIndex:
    """An index in memory; `probes` is the search effort of IVF and HNSW indexes."""

    def __init__(self, folder: Path, *, probes: int) -> None:
        self._index: Any = _read(folder)
        self._probes = probes

    def search(self, vectors: Vectors, k: int, excluded_rows: NDArray[np.int64] | None = None) -> Neighbours:
        """The `k` gallery rows nearest to each of `vectors` (n, d), without `excluded_rows`."""
        selector = None
        if excluded_rows is not None:
            selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(excluded_rows))
        similarity, rows = self._index.search(vectors, k, params=self._parameters(selector))
        return Neighbours(rows=rows, similarity=similarity)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """The indexed vectors (n, d) of `rows`; approximate if the index compresses vectors."""
        if isinstance(self._index, faiss.IndexIVF):
            self._index.make_direct_map()
        return np.asarray(self._index.reconstruct_batch(rows))

    def _parameters(self, selector: Any) -> Any:
        if isinstance(self._index, faiss.IndexIVF):
            return faiss.SearchParametersIVF(sel=selector, nprobe=self._probes)
        if isinstance(self._index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(sel=selector, efSearch=self._probes)
        return faiss.SearchParameters(sel=selector)

    def search_others(
        self, vectors: Vectors, k: int, query_authors: "pd.Series[str]", gallery_authors: "pd.Series[str]"
    ) -> Neighbours:
        """As `search`, without photos by each query's photographer; an unknown photographer (null) excludes nothing."""
        rows = np.empty((len(vectors), k), dtype=np.int64)
        similarity = np.empty((len(vectors), k), dtype=np.float32)
        gallery_rows = gallery_authors.reset_index(drop=True).groupby(gallery_authors.to_numpy()).indices
        shared = query_authors.where(query_authors.isin(gallery_rows.keys())).to_numpy()
        for author in pd.unique(shared):
            queries = np.flatnonzero(pd.isna(shared) if pd.isna(author) else shared == author)
            excluded = None if pd.isna(author) else np.asarray(gallery_rows[author], dtype=np.int64)
            found = self.search(vectors[queries], k=k, excluded_rows=excluded)
            rows[queries], similarity[queries] = found.rows, found.similarity
        return Neighbours(rows=rows, similarity=similarity)
