"""Candidates that are places: the photo places that fit a photo best, scored by GeoCLIP's location encoder.

GeoCLIP's softmax over places is a posterior. The candidates divide its mass: the best places, some that stand for equal
parts of all others, and rings round the best. Shapes: b photos, p photo places, k candidates, d joint space.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from torch import Tensor

from dualgeo_core.base.geo import FloatArray, destination
from dualgeo_core.model.geoclip import GeoClip
from dualgeo_core.settings import PlaceSettings

PHOTOS_AT_ONCE = 64
BEARINGS = np.arange(0, 360, 45)


@dataclass(frozen=True)
class PhotoVectors:
    """Photos in the joint space: row i of `vectors_bd` (unit vectors) belongs to `frame.iloc[i]` (column id)."""

    frame: pd.DataFrame
    vectors_bd: Tensor


@dataclass(frozen=True)
class PhotoPlaces:
    """Places (p,) in degrees, their numbers of photos, their vectors, and an order in which neighbours are close."""

    latitude: FloatArray
    longitude: FloatArray
    photos: FloatArray
    order: NDArray[np.int64]
    vectors_pd: Tensor


class _Scored(NamedTuple):
    """Candidates (b, k): position in degrees, cosine of photo and place, and log of the posterior's mass."""

    latitude: FloatArray
    longitude: FloatArray
    cosine: FloatArray
    log_mass: FloatArray


@dataclass(frozen=True)
class PlaceRetriever:
    """Finds the places of photos. The candidates of a photo do not depend on the other photos."""

    model: GeoClip
    places: PhotoPlaces
    settings: PlaceSettings

    def candidates(self, queries: PhotoVectors, rows: NDArray[np.int64] | None = None) -> pd.DataFrame:
        """The candidates of `rows` of `queries` (all by default), best photo places first, in GeoCLIP's order.

        Columns: id, kind (similar), rank (from 1), gallery_id (None), latitude, longitude, similarity (cosine), and
        gps_score, the log of the candidate's part of the posterior.
        """
        rows = np.arange(len(queries.frame)) if rows is None else rows
        ids = queries.frame["id"].to_numpy()
        parts = [pd.DataFrame(columns=["id", "kind"])]
        for start in range(0, len(rows), PHOTOS_AT_ONCE):
            chunk = rows[start : start + PHOTOS_AT_ONCE]
            parts += self._of_chunk(ids[chunk], queries.vectors_bd[torch.from_numpy(chunk)])
        return pd.concat(parts[1:] or parts, ignore_index=True)

    def _of_chunk(self, ids: NDArray[np.object_], vectors_bd: Tensor) -> list[pd.DataFrame]:
        cosine_bp = (vectors_bd @ self.places.vectors_pd.T).cpu().numpy().astype(np.float64)
        log_mass_bp = log_softmax(self.model.scale * cosine_bp + np.log(self.places.photos), axis=1)
        best_bk = np.argsort(-cosine_bp, axis=1, kind="stable")[:, : self.settings.best]
        found = _Scored(
            self.places.latitude[best_bk],
            self.places.longitude[best_bk],
            np.take_along_axis(cosine_bp, best_bk, axis=1),
            np.take_along_axis(log_mass_bp, best_bk, axis=1),
        )
        for radius_km in self.settings.rings_km:
            found = self._with_rings(found, vectors_bd, radius_km)
        np.put_along_axis(log_mass_bp, best_bk, -np.inf, axis=1)
        return [
            self._table(photo_id, _Scored(*(column[row] for column in found)), cosine_bp[row], log_mass_bp[row])
            for row, photo_id in enumerate(ids)
        ]

    def _with_rings(self, found: _Scored, vectors_bd: Tensor, radius_km: float) -> _Scored:
        """The candidates and a ring round each of the heaviest, which divides its mass between itself and the ring.

        Before the photo is seen, half of the mass is at the place itself.
        """
        top = np.argsort(-found.log_mass, axis=1, kind="stable")[:, : self.settings.ringed]
        centre = _Scored(*(np.take_along_axis(column, top, axis=1)[..., None] for column in found))
        latitude, longitude = destination(centre.latitude, centre.longitude, BEARINGS, radius_km)
        degrees = torch.from_numpy(np.stack([latitude, longitude], axis=-1))
        encoded = self.model.places(degrees.flatten(0, -2)).unflatten(0, latitude.shape)
        cosine = torch.einsum("bd,btrd->btr", vectors_bd, encoded).cpu().numpy().astype(np.float64)
        logits = self.model.scale * np.concatenate([centre.cosine, cosine], axis=-1)
        logits[..., 0] += np.log(len(BEARINGS))
        log_mass = centre.log_mass + log_softmax(logits, axis=-1)
        np.put_along_axis(found.log_mass, top, log_mass[..., 0], axis=1)
        ring = _Scored(latitude, longitude, cosine, log_mass[..., 1:])
        return _Scored(*(np.hstack([old, new.reshape(len(new), -1)]) for old, new in zip(found, ring, strict=True)))

    def _table(self, photo_id: object, found: _Scored, cosine_p: FloatArray, log_mass_p: FloatArray) -> pd.DataFrame:
        """The candidates of one photo, and those that stand for the other places: systematic sampling by mass."""
        rows, log_mass = _equal_parts(log_mass_p, self.places.order, self.settings.rest)
        others = _Scored(self.places.latitude[rows], self.places.longitude[rows], cosine_p[rows], log_mass)
        added = np.arange(len(found.log_mass)) >= self.settings.best
        joined = _Scored(*map(np.concatenate, zip(found, others, strict=True)))
        after = -np.where(np.append(added, np.ones(len(rows), bool)), joined.log_mass, np.inf)
        ranked = _Scored(*(column[np.argsort(after, kind="stable")] for column in joined))
        return pd.DataFrame(
            {
                "id": photo_id,
                "kind": "similar",
                "rank": np.arange(1, len(ranked.latitude) + 1),
                "gallery_id": None,
                "latitude": ranked.latitude,
                "longitude": ranked.longitude,
                "similarity": ranked.cosine,
                "gps_score": ranked.log_mass,
            }
        )


def _equal_parts(log_mass_p: FloatArray, order: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], FloatArray]:
    """The places in the middle of `count` consecutive parts of equal mass, and the log of the mass of each."""
    cumulated = np.cumsum(np.exp(log_mass_p[order]))
    if not len(order) or cumulated[-1] <= 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    steps = (np.arange(count) + 0.5) / count * cumulated[-1]
    rows, times = np.unique(order[np.searchsorted(cumulated, steps)], return_counts=True)
    return rows, np.log(times / count) + logsumexp(log_mass_p)
