"""Search in the FAISS index over the gallery, also without a query's own photographer.

An approximate index proposes rows, whose stored vectors are then compared exactly.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.artifacts import read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.retrieval.embeddings import StoredVectors, Vectors
from dualgeo_core.retrieval.faiss_index import map_index, set_effort
from dualgeo_core.retrieval.recall import SAMPLE_QUERIES, recall_sample

VECTORS = "vectors"  # folder of the stored vectors of an approximate index
PROPOSED = 5  # rows that an approximate index proposes, for each row asked for
SPARE = 30  # rows found beyond those asked for, in place of photos by the query's own photographer
CHECK_SAMPLE = 1  # seed of the sample of queries, others than those of the build
_RANKED_ROWS = 8192  # proposed rows whose vectors are in memory at once


class Neighbours(NamedTuple):
    """Gallery rows and inner products of each query, best first, both (queries, k); row -1 means no result."""

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]


class GalleryIndex:
    """An index for search. An approximate one has the stored vectors, and its search effort."""

    def __init__(self, index: Any, *, stored: StoredVectors | None = None, effort: int | None = None) -> None:
        self._index, self.stored, self._effort = index, stored, effort
        if effort is not None:
            set_effort(index, effort)

    @classmethod
    def open(cls, folder: Path) -> "GalleryIndex":
        """The index in a folder that `build_index` wrote, memory-mapped. Raises InputError if it cannot be read."""
        paths, record = sorted((folder / VECTORS).glob("*.safetensors")), read_record(folder)
        if not paths:
            return cls(map_index(folder))
        if record is None or "effort" not in record.facts:
            raise InputError(
                f"{folder} does not record the search effort of its index; run the step gallery_index again"
            )
        return cls(map_index(folder), stored=StoredVectors(paths), effort=record.facts["effort"])

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
                set_effort(self._index, effort)
        if self._effort is not None:
            set_effort(self._index, self._effort)
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
