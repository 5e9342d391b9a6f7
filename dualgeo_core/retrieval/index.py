"""The FAISS index over the gallery: built shard by shard, searched with a query's own photographer left out."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.errors import InputError
from dualgeo_core.files import atomic_folder, require_fingerprint, write_fingerprint
from dualgeo_core.retrieval.embeddings import Vectors

try:
    faiss: Any = importlib.import_module("faiss")
except ImportError:
    raise InputError("faiss is not installed: pip install 'dualgeo[cpu]', or 'dualgeo[gpu]' (one of the two)") from None

INDEX_FILE = "index.faiss"
TRAINING_ROWS = 262_144


def build_index(*, folder: Path, shards: Iterable[Vectors], specification: str, signature: str) -> int:
    """Writes the inner-product index of the FAISS factory string `specification`; returns how many rows it holds.

    Beside the index there is one shard in memory, or as many as TRAINING_ROWS take where an index learns its cells.
    """
    index: Any = None
    untrained: list[Vectors] = []
    for vectors in shards:
        if index is None:
            index = faiss.index_factory(vectors.shape[1], specification, faiss.METRIC_INNER_PRODUCT)
        if index.is_trained:
            index.add(vectors)
            continue
        untrained.append(vectors)
        if sum(map(len, untrained)) >= TRAINING_ROWS:
            _train_and_add(index, untrained)
    if index is None:
        raise InputError(f"nothing to index in {folder}: the gallery has no photos")
    if untrained:
        _train_and_add(index, untrained)
    with atomic_folder(folder) as temporary:
        faiss.write_index(index, str(temporary / INDEX_FILE))
        write_fingerprint(temporary, signature, rows=index.ntotal, specification=specification)
    return int(index.ntotal)


def _train_and_add(index: Any, untrained: list[Vectors]) -> None:
    vectors = np.concatenate(untrained)
    index.train(vectors[:TRAINING_ROWS])
    index.add(vectors)
    untrained.clear()


@dataclass(frozen=True)
class Neighbours:
    """Per query the gallery rows found and their inner products, best first: both (queries, k); row -1 means none."""

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]


class GalleryIndex:
    """An index that was checked against the fingerprint of what should have made it."""

    def __init__(self, *, folder: Path, signature: str, probes: int) -> None:
        require_fingerprint(folder, expected=signature, made_by="gallery_index")
        self.signature = signature
        self._index: Any = faiss.read_index(str(folder / INDEX_FILE))
        self._probes = probes

    def search(self, vectors: Vectors, k: int, excluded_rows: NDArray[np.int64] | None = None) -> Neighbours:
        """The `k` gallery rows nearest to each of `vectors` (n, d), none of them among `excluded_rows`."""
        selector = None
        if excluded_rows is not None:
            selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(excluded_rows))
        similarity, rows = self._index.search(vectors, k, params=self._parameters(selector))
        return Neighbours(rows=rows, similarity=similarity)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """The indexed vectors of these rows, as the index keeps them (an index that compresses gives them back so)."""
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
        """As `search`, with each query's own photographer left out; unknown photographers (null) exclude nothing."""
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
