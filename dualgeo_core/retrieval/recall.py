"""What an approximate index misses: recall against exact search, and the least search effort that reaches a recall."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.retrieval.embeddings import StoredVectors, Vectors

NEAREST = 20  # recall is of this many
SAMPLE_QUERIES = 1000  # to measure recall with
_MARGIN = 0.01  # of the recall over the required one, so that other queries reach it, too

Search = Callable[[Vectors, int], NDArray[np.int64]]
"""The gallery rows (n, k) nearest to vectors (n, d), best first."""


@dataclass(frozen=True)
class RecallSample:
    """Gallery photos as queries, and the NEAREST other gallery rows of each by exact search, (n, NEAREST)."""

    rows: NDArray[np.int64]
    vectors: Vectors
    nearest: NDArray[np.int64]

    def recall(self, search: Search) -> float:
        """The share of the nearest rows that `search` finds."""
        if not self.nearest.size:
            return 1.0
        found = search(self.vectors, self.nearest.shape[1] + 1)
        pairs = zip(self.rows, self.nearest, found, strict=True)
        hits = [np.isin(nearest, others_of(row, rows)).mean() for row, nearest, rows in pairs]
        return float(np.mean(hits))


def others_of(row: np.int64, found: NDArray[np.int64]) -> NDArray[np.int64]:
    """`found` without the query's own row, as long as NEAREST at most."""
    return found[found != row][:NEAREST]


def recall_sample(stored: StoredVectors, *, queries: int, seed: int) -> RecallSample:
    """A random sample of gallery photos with their exact neighbours; reads all vectors once."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(stored))[:queries])
    vectors = stored.rows(rows)
    count = min(NEAREST + 1, len(stored))
    best = np.full((len(rows), 0), -np.inf, dtype=np.float32)
    where = np.empty((len(rows), 0), dtype=np.int64)
    for start, part in stored.parts():
        similarity = vectors @ part.T
        best = np.concatenate([best, similarity], axis=1)
        where = np.concatenate([where, np.broadcast_to(start + np.arange(len(part)), similarity.shape)], axis=1)
        top = np.argpartition(-best, min(count, best.shape[1]) - 1, axis=1)[:, :count]
        best, where = np.take_along_axis(best, top, axis=1), np.take_along_axis(where, top, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    where = np.take_along_axis(where, order, axis=1)
    nearest = np.stack([others_of(row, found)[: count - 1] for row, found in zip(rows, where, strict=True)])
    return RecallSample(rows=rows, vectors=vectors, nearest=nearest)


def least_effort(
    sample: RecallSample, *, search: Callable[[int], Search], efforts: Iterable[int], least_recall: float
) -> tuple[int, float]:
    """The first of `efforts` whose recall is `least_recall` with a margin, and its recall; otherwise the last one."""
    effort, recall = 0, 0.0
    for effort in efforts:
        recall = sample.recall(search(effort))
        if recall >= min(least_recall + _MARGIN, 1.0):
            break
    return effort, recall
