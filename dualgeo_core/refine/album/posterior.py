"""The posterior of each photo of an album: its own mixture, reweighted and extended by what the other photos say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.geo import FloatArray
from dualgeo_core.refine.album.albums import Albums, Rows
from dualgeo_core.refine.album.features import AlbumPoints, album_points
from dualgeo_core.refine.album.heads import AlbumHead
from dualgeo_core.refine.album.mixtures import Mixtures, single_photo_mixtures
from dualgeo_core.refine.album.rates import NearnessRates
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.evidence import Evidence
from dualgeo_core.refine.features import Features, Pairs
from dualgeo_core.refine.kernels import SCALES_KM, distance_bins
from dualgeo_core.refine.posterior import best_position
from dualgeo_core.refine.refiner import Head

_LEAST_WEIGHT = np.float32(1e-6)


@dataclass(frozen=True)
class AlbumView:
    """Photos as their albums show them; the first `candidates` points of a photo are candidates, the rest answers."""

    mixtures: Mixtures
    albums: Albums
    rates: NearnessRates
    candidates: int
    density: PhotoDensity

    def points(self, rows: Rows) -> AlbumPoints:
        """The points of photos `rows`."""
        return album_points(self.mixtures, self.albums, rows, rates=self.rates, density=self.density)

    def own_logits(self, rows: Rows) -> NDArray[np.float32]:
        """Logarithms of the single-photo weights, bounded below: (rows, points, scales)."""
        return np.log(np.maximum(self.mixtures.weights[rows], _LEAST_WEIGHT))

    def pairs(self, rows: Rows, points: AlbumPoints) -> Pairs:
        """Own points, then further ones."""
        vectors = np.concatenate([self.mixtures.pairs.vectors[rows], points.further_xyz], axis=1)
        known = np.concatenate([self.mixtures.pairs.known[rows], points.further_known], axis=1)
        return Pairs(vectors=vectors, known=known, bins=distance_bins(vectors, vectors))


def view_albums(
    evidence: Evidence,
    albums: Albums,
    *,
    singles: tuple[Head, Head],
    rates: NearnessRates,
    density: PhotoDensity,
    trust: FloatArray,
) -> AlbumView:
    """`singles` are the single-photo heads for photos without and with a usable answer; `trust` is per photo (n,)."""
    mixtures = single_photo_mixtures(
        evidence, albums, alone=singles[0], answered=singles[1], density=density, trust=trust
    )
    return AlbumView(mixtures, albums, rates, candidates=evidence.latitude.shape[1], density=density)


def locate_in_album(view: AlbumView, rows: Rows, *, head: AlbumHead) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Latitude (n,), longitude (n,), and the posterior mass within RADII_KM of them (n, r), of photos `rows`."""
    points = view.points(rows)
    pairs = view.pairs(rows, points)
    weights, background = album_weights(view, rows, points, pairs, head=head)
    return best_position(pairs, weights, background, snaps=head.snaps, density=view.density)


def album_weights(
    view: AlbumView, rows: Rows, points: AlbumPoints, pairs: Pairs, *, head: AlbumHead
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mixture: weights (n, points, scales) of the kernels, and of the whole Earth (n,); together 1 per photo."""
    logits = np.concatenate(
        [
            _linear(points.own_features[:, : view.candidates], head.candidate),
            _linear(points.own_features[:, view.candidates :], head.answer),
            _linear(points.further_features, head.further),
        ],
        axis=1,
    )
    own = view.own_logits(rows)
    logits[:, : own.shape[1]] += own
    logits[~pairs.known] = -np.inf
    peak = np.maximum(logits.max(axis=(1, 2)), np.float32(head.background))
    weights = np.exp(logits - peak[:, None, None])
    background = np.exp(np.float32(head.background) - peak)
    total = weights.sum(axis=(1, 2)) + background
    return weights / total[:, None, None], background / total


def _linear(features: Features, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = features.reshape(-1, features.shape[2]) @ weights[1:] + weights[0]
    return flat.reshape(*features.shape[:2], len(SCALES_KM))
