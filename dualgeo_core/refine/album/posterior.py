"""The posterior of each photo of an album: its own mixture, reweighted and extended by what the other photos say."""

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.geo import FloatArray
from dualgeo_core.refine.album.features import AlbumPoints
from dualgeo_core.refine.album.heads import AlbumHead
from dualgeo_core.refine.album.mixtures import Mixtures
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.features import Features, Pairs
from dualgeo_core.refine.kernels import SCALES_KM, distance_bins
from dualgeo_core.refine.posterior import decide

_LEAST_WEIGHT = 1e-6


def own_logits(mixtures: Mixtures, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logarithms of the single-photo weights of photos `rows`, bounded below: (rows, points, scales)."""
    return np.log(np.maximum(mixtures.weights[rows], np.float32(_LEAST_WEIGHT)))


def locate_in_album(
    mixtures: Mixtures,
    rows: NDArray[np.int64],
    points: AlbumPoints,
    *,
    candidates: int,
    head: AlbumHead,
    density: PhotoDensity,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Latitude (n,), longitude (n,), and the posterior mass within RADII_KM of them (n, r), of photos `rows`."""
    logits = np.concatenate(
        [
            _linear(points.own_features[:, :candidates], head.candidate),
            _linear(points.own_features[:, candidates:], head.answer),
            _linear(points.further_features, head.further),
        ],
        axis=1,
    )
    own = mixtures.pairs.known.shape[1]
    logits[:, :own] += own_logits(mixtures, rows)
    vectors = np.concatenate([mixtures.pairs.vectors[rows], points.further_xyz], axis=1)
    known = np.concatenate([mixtures.pairs.known[rows], points.further_known], axis=1)
    logits[~known] = -np.inf
    pairs = Pairs(vectors=vectors, known=known, bins=distance_bins(vectors, vectors))
    weights, background = _normalised(logits, head.background)
    return decide(pairs, weights, background, snaps=head.snaps, density=density)


def _linear(features: Features, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return (features.reshape(-1, features.shape[2]) @ weights[1:] + weights[0]).reshape(
        *features.shape[:2], len(SCALES_KM)
    )


def _normalised(logits: NDArray[np.float32], background: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Softmax over all kernels (n, points, scales) and the background (n,)."""
    peak = np.maximum(logits.max(axis=(1, 2)), np.float32(background))
    weights = np.exp(logits - peak[:, None, None])
    rest = np.exp(np.float32(background) - peak)
    total = weights.sum(axis=(1, 2)) + rest
    return weights / total[:, None, None], rest / total
