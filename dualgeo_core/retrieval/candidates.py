"""Candidates: the gallery photos most and least similar to each query, with their places. Leakage is excluded."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dualgeo_core.model.embed import PhotoEmbeddings, embed
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.retrieval.gps_evidence import with_gps_scores
from dualgeo_core.retrieval.index import GalleryIndex, Neighbours
from dualgeo_core.retrieval.view_similarities import QUERIES_AT_ONCE, DescribedPhotos, unit, with_view_similarities
from dualgeo_core.settings import Representation, RetrievalSettings
from dualgeo_core.views.store import Views

NEAR_DUPLICATE_MARGIN = 10
HUBNESS_REACH = 4  # CSLS reorders this many times the requested candidates


class Gallery(DescribedPhotos, Protocol):
    """The searched photos. Row i of the index is `frame.iloc[i]` (id, latitude, longitude, author)."""

    @property
    def frame(self) -> pd.DataFrame: ...


@dataclass(frozen=True)
class Retriever:
    """An opened gallery in one representation, which finds candidates for photos; `encoder` needs no model."""

    representation: Representation
    model: DualViewModel | None
    index: GalleryIndex
    gallery: Gallery
    settings: RetrievalSettings
    device: torch.device

    def candidates(self, queries: Views, rows: NDArray[np.int64] | None = None) -> pd.DataFrame:
        """The most and the least similar gallery photos of each query, without leakage.

        The queries are `rows` of `queries` (default: all). Photos by the query's photographer and near-duplicates of
        the query are not candidates. Columns: id, kind (similar or dissimilar), rank (from 1), gallery_row, gallery_id,
        latitude, longitude, similarity, encoder_similarity, mask_similarity, and gps_score if there is a model. The
        least similar photos are the neighbours of the negated vector; the LMM's prompt lists them as a contrast.
        """
        rows = np.arange(len(queries.frame)) if rows is None else rows
        photos = self._embedded(queries, rows)
        asked = queries.frame.iloc[rows]
        count = min(self.settings.candidates, len(self.gallery.frame))
        gallery_authors = self.gallery.frame["author"]
        reach = count * (HUBNESS_REACH if self.settings.hubness_neighbours else 1) + NEAR_DUPLICATE_MARGIN
        similar = self.index.search_others(photos.search_nd, reach, asked["author"], gallery_authors)
        if self.settings.hubness_neighbours:
            similar = self._reordered_by_csls(similar)
        similar = self._without_near_duplicates(similar, queries, rows)
        least = self.index.search_others(-photos.search_nd, count, asked["author"], gallery_authors)
        dissimilar = Neighbours(rows=least.rows, similarity=-least.similarity)
        return self._scored(queries, rows, photos, similar=_first(similar, count), dissimilar=dissimilar)

    def leaking_candidates(self, queries: Views) -> pd.DataFrame:
        """As `candidates`, but only the most similar photos and without exclusions; measures the score with leakage."""
        rows = np.arange(len(queries.frame))
        count = min(self.settings.candidates, len(self.gallery.frame))
        photos = self._embedded(queries, rows)
        return self._scored(queries, rows, photos, similar=self.index.search(photos.search_nd, count))

    def _embedded(self, queries: Views, rows: NDArray[np.int64]) -> PhotoEmbeddings:
        return embed(model=self.model, views=queries, variant=self.representation, rows=rows, device=self.device)

    def _scored(
        self, queries: Views, rows: NDArray[np.int64], photos: PhotoEmbeddings, **found: Neighbours
    ) -> pd.DataFrame:
        """One row per query and neighbour, with the views' similarities and the GPS encoder's score of the place."""
        ids = queries.frame["id"].iloc[rows].to_numpy()
        parts = [_candidate_rows(kind, neighbours, ids, self.gallery.frame) for kind, neighbours in found.items()]
        candidates = pd.concat(parts, ignore_index=True)
        candidates = with_view_similarities(candidates, gallery=self.gallery, queries=queries, rows=rows)
        if self.model is None or photos.places_nd is None:
            return candidates
        return with_gps_scores(candidates, model=self.model, photos_nd=photos.places_nd, ids=ids)

    def _reordered_by_csls(self, found: Neighbours) -> Neighbours:
        """Neighbours reordered by CSLS (Conneau et al. 2018, equation 4), best first.

        The query's term does not change the order and is omitted. The returned similarity is half the score: the cosine
        minus half the photo's mean cosine to its nearest gallery photos by other photographers.
        """
        authors = self.gallery.frame["author"]
        unique, place = np.unique(found.rows.clip(min=0), return_inverse=True)
        nearest = self.index.search_others(
            self.index.vectors(unique), self.settings.hubness_neighbours, authors.iloc[unique], authors
        )
        crowding = np.ma.array(nearest.similarity, mask=nearest.rows < 0).mean(axis=1).filled(0.0)
        score = np.where(found.rows < 0, -np.inf, found.similarity - crowding[place.reshape(found.rows.shape)] / 2)
        order = np.argsort(-score, axis=1, kind="stable")
        return Neighbours(
            rows=np.take_along_axis(found.rows, order, axis=1),
            similarity=np.take_along_axis(score, order, axis=1).astype(np.float32),
        )

    def _without_near_duplicates(self, found: Neighbours, queries: Views, query_rows: NDArray[np.int64]) -> Neighbours:
        kept = found.rows.copy()
        for start in range(0, len(kept), QUERIES_AT_ONCE):
            part = slice(start, start + QUERIES_AT_ONCE)
            unique, place = np.unique(kept[part].clip(min=0), return_inverse=True)
            neighbours_ud, queries_qd = unit(self.gallery.pooled(unique)), unit(queries.pooled(query_rows[part]))
            cosine_qk = torch.einsum("qd,qkd->qk", queries_qd, neighbours_ud[place.reshape(kept[part].shape)])
            near = cosine_qk.numpy() >= self.settings.near_duplicate_similarity
            kept[part] = np.where(near, -1, kept[part])
        return Neighbours(rows=kept, similarity=found.similarity)


def _candidate_rows(
    kind: str, found: Neighbours, query_ids: NDArray[np.object_], gallery: pd.DataFrame
) -> pd.DataFrame:
    """One row per query and neighbour: id, kind, rank (from 1), gallery_row, gallery_id, place, similarity."""
    query, position = np.nonzero(found.rows >= 0)
    rows = found.rows[query, position]
    photos = gallery.iloc[rows]
    return pd.DataFrame(
        {
            "id": query_ids[query],
            "kind": kind,
            "rank": position + 1,
            "gallery_row": rows,
            "gallery_id": photos["id"].to_numpy(),
            "latitude": photos["latitude"].to_numpy(),
            "longitude": photos["longitude"].to_numpy(),
            "similarity": found.similarity[query, position].astype(np.float64),
        }
    )


def _first(found: Neighbours, count: int) -> Neighbours:
    """The first `count` results (row >= 0) of each query, in order."""
    order = np.argsort(found.rows < 0, axis=1, kind="stable")[:, :count]
    return Neighbours(
        rows=np.take_along_axis(found.rows, order, axis=1),
        similarity=np.take_along_axis(found.similarity, order, axis=1),
    )
