"""Evidence and albums in, a posterior for each photo out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import FloatArray, unit_vectors
from dualgeo_core.refine.album.albums import Albums, Rows, gather_albums
from dualgeo_core.refine.album.heads import AlbumFit, AlbumHead, AlbumPart
from dualgeo_core.refine.album.posterior import AlbumView, album_weights, locate_in_album, view_albums
from dualgeo_core.refine.calibration import radius_at
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.evidence import Evidence
from dualgeo_core.refine.kernels import SCALES_KM
from dualgeo_core.refine.mixtures import Mixture, mixtures_of
from dualgeo_core.refine.posterior import CHUNK, Posterior, likeness_of, posterior
from dualgeo_core.refine.refiner import Refiner


@dataclass(frozen=True)
class Reading:
    """The photos `rows` are read by one head of one fit."""

    fit: AlbumFit
    head: AlbumHead
    rows: Rows


def album_posterior(evidence: Evidence, albums: Albums, *, refiner: Refiner, density: PhotoDensity) -> Posterior:
    """The posterior of each query, given the other photos of its album.

    A photo without others gets its single-photo posterior, an anchor its own position with radius 0. A photo with
    neither candidates nor answers gets NaN. Raises InputError if the refiner has no album part.
    """
    found = posterior(evidence, refiner=refiner, density=density)
    read = [reading for reading in readings(evidence, albums, part=album_part_of(refiner)) if len(reading.rows)]
    if not read:
        return _with_anchors(found, albums)
    for reading in read:
        view = _view(evidence, albums, reading, refiner=refiner, density=density)
        calibration = reading.head.calibration
        for start in range(0, len(reading.rows), CHUNK):
            rows = reading.rows[start : start + CHUNK]
            found.latitude[rows], found.longitude[rows], mass = locate_in_album(view, rows, head=reading.head)
            found.radius_50_km[rows] = radius_at(mass, calibration.level_50)
            found.radius_90_km[rows] = radius_at(mass, calibration.level_90)
            found.confidence[rows] = calibration.confidences(mass)
    return _with_anchors(found, albums)


def album_mixtures(evidence: Evidence, albums: Albums, *, refiner: Refiner, density: PhotoDensity) -> list[Mixture]:
    """The mixture from which `album_posterior` decides, for each query; an anchor's is one kernel at its place."""
    found = mixtures_of(evidence, refiner=refiner, density=density)
    for reading in readings(evidence, albums, part=album_part_of(refiner)):
        if not len(reading.rows):
            continue
        view = _view(evidence, albums, reading, refiner=refiner, density=density)
        points = view.points(reading.rows)
        pairs = view.pairs(reading.rows, points)
        weights, background = album_weights(view, reading.rows, points, pairs, head=reading.head)
        for row, xyz, known, kernels, rest in zip(
            reading.rows, pairs.vectors, pairs.known, weights, background, strict=True
        ):
            found[row] = Mixture(xyz[known], kernels[known], float(rest))
    for row in np.flatnonzero(albums.is_anchor):
        here = unit_vectors(albums.latitude[row : row + 1], albums.longitude[row : row + 1])
        found[row] = Mixture(here, np.eye(1, len(SCALES_KM), dtype=np.float32), 0.0)
    return found


def _view(
    evidence: Evidence, albums: Albums, reading: Reading, *, refiner: Refiner, density: PhotoDensity
) -> AlbumView:
    return view_albums(
        evidence,
        albums,
        singles=(refiner.alone, refiner.answered),
        rates=reading.fit.rates,
        density=density,
        trust=likeness_of(evidence, refiner)[1],
    )


def album_part_of(refiner: Refiner) -> AlbumPart:
    """The refiner's album part. Raises InputError if it has none."""
    if refiner.album is None:
        raise InputError("the refiner was fitted without albums; fit it again with `dualgeo fit-refiner --albums`")
    return refiner.album


def albums_of(table: pd.DataFrame, ids: Sequence[str], *, part: AlbumPart) -> Albums:
    """The albums of photos `ids`, in the order that the album part reads; without order where the table has another.

    Raises InputError if the order numbers photos one by one, but the part was fitted on an order with gaps.
    """
    albums = gather_albums(table, ids, order_column=part.order_column)
    if part.order_column == "order" and albums.usual_gap(0.5) < part.least_gap:
        raise InputError(
            f"column order: photos are {albums.usual_gap(0.5):g} apart, but the refiner was fitted on gaps from "
            f"{part.least_gap:g} on, such as those of Flickr ids; leave out the column, or fit a refiner on your albums"
        )
    return albums


def readings(evidence: Evidence, albums: Albums, *, part: AlbumPart) -> Iterator[Reading]:
    """Which head reads which photos. Anchors, photos without evidence and photos without company are in none."""
    informative = evidence.has_candidates | evidence.has_answers | albums.is_anchor
    located = informative & ~albums.is_anchor & has_company(albums, informative)
    ordered = has_company_in_order(albums, informative) & (part.ordered is not None)
    for fit, chosen in ((part.unordered, ~ordered), (part.ordered, ordered)):
        if fit is not None:
            for head, kind in ((fit.alone, ~evidence.has_answers), (fit.answered, evidence.has_answers)):
                yield Reading(fit=fit, head=head, rows=np.flatnonzero(located & chosen & kind))


def has_company(albums: Albums, counted: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Which photos (n,) are in an album with at least two of the `counted` photos (of all, where not given)."""
    in_album = albums.album >= 0
    weights = in_album if counted is None else in_album & counted
    sizes = np.bincount(albums.album[weights], minlength=int(albums.album.max(initial=0)) + 1)
    return in_album & (sizes[albums.album] > 1)


def has_company_in_order(albums: Albums, counted: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Which photos (n,) have a place in their album's order, and another of the `counted` photos with one."""
    ordered = np.isfinite(albums.order)
    return ordered & has_company(albums, ordered if counted is None else ordered & counted)


def beside(albums: Albums, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which photos (n,) are in an album with at least one of the `counted` photos."""
    in_album = albums.album >= 0
    sizes = np.bincount(albums.album[in_album & counted], minlength=int(albums.album.max(initial=0)) + 1)
    return in_album & (sizes[albums.album] > 0)


def _with_anchors(found: Posterior, albums: Albums) -> Posterior:
    anchor = albums.is_anchor

    def known(values: FloatArray, certain: FloatArray | float) -> FloatArray:
        return np.where(anchor if values.ndim == 1 else anchor[:, None], certain, values)

    return Posterior(
        latitude=known(found.latitude, albums.latitude),
        longitude=known(found.longitude, albums.longitude),
        radius_50_km=known(found.radius_50_km, 0.0),
        radius_90_km=known(found.radius_90_km, 0.0),
        confidence=known(found.confidence, 1.0),
        likeness=found.likeness,
    )
