"""Fitting the album part of a refiner on photos with known places, calibrated on photographers held out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.geo import FloatArray, haversine_km, unit_vectors
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.photographers import photographer_folds
from dualgeo_core.refine.album.albums import Albums, Rows, gather_albums
from dualgeo_core.refine.album.heads import AlbumFit, AlbumHead, AlbumPart, OrderColumn
from dualgeo_core.refine.album.likelihood import maximise_album
from dualgeo_core.refine.album.posterior import AlbumView, locate_in_album, view_albums
from dualgeo_core.refine.album.predict import album_part_of, has_company, has_company_in_order
from dualgeo_core.refine.album.rates import fit_rates
from dualgeo_core.refine.calibration import calibrate
from dualgeo_core.refine.density import PhotoDensity
from dualgeo_core.refine.evidence import Evidence
from dualgeo_core.refine.likelihood import maximise
from dualgeo_core.refine.refiner import Head, shipped_refiner

FEWEST_PHOTOS = 50
FOLDS = 3  # fewer than a single photo's: fits on two thirds of the photographers calibrate a little wide
_LEAST_GAP_QUANTILE, _LEAST_GAP_SHARE = 0.01, 0.1


@dataclass(frozen=True)
class Sample:
    """Photos with known places, by photographer, and the trust in the evidence of each."""

    evidence: Evidence
    latitude: FloatArray
    longitude: FloatArray
    photographers: NDArray[np.int64]
    density: PhotoDensity
    trust: FloatArray

    def without_answers(self) -> "Sample":
        """The same with candidates alone."""
        return replace(self, evidence=self.evidence.without_answers())


@dataclass(frozen=True)
class _Fold:
    """Rows to fit on, rows held out, and the single-photo heads fitted on the former."""

    train: Rows
    test: Rows
    singles: tuple[Head, Head]


def fit_album_part(
    sample: Sample, table: pd.DataFrame, *, singles: tuple[Head, Head], seed: int, progress: Progress = silent
) -> AlbumPart:
    """The album part that goes with `singles`, the heads for single photos without and with a usable answer.

    Positions in the table are not read. Without enough answered photos the heads for them are the shipped ones. Raises
    InputError if fewer than FEWEST_PHOTOS photos or 2 photographers are in an album with others, or if an album has
    two photographers.
    """
    column = _order_column(table)
    albums = gather_albums(table, sample.evidence.ids.tolist(), order_column=column).without_anchors()
    together = np.flatnonzero(has_company(albums))
    _check(sample, albums, together, table=table)
    folds = list(_folds(sample, singles, seed=seed))
    whole = _Fold(train=np.arange(len(sample.evidence)), test=np.arange(0), singles=singles)
    unordered = _fit(sample, albums.without_order(), together, folds=folds, whole=whole)
    progress("fit albums", 1, 2)
    in_order = np.flatnonzero(has_company_in_order(albums))
    ordered = _fit(sample, albums, in_order, folds=folds, whole=whole) if _enough(sample, in_order) else None
    progress("fit albums", 2, 2)
    return AlbumPart(
        unordered=unordered,
        ordered=ordered,
        order_column=column if ordered else None,
        least_gap=_LEAST_GAP_SHARE * albums.usual_gap(_LEAST_GAP_QUANTILE) if ordered else 0.0,
        data={
            "photos": len(together),
            "albums": len(set(albums.album[together])),
            "fingerprint": fingerprint(table.to_csv(index=False)),
        },
    )


def enough_albums(table: pd.DataFrame) -> bool:
    """Whether these albums, of one author each, are enough to fit on: see `fit_album_part`."""
    together = table[table["album"].duplicated(keep=False)]
    return len(together) >= FEWEST_PHOTOS and together["album"].nunique() >= 2


def _order_column(table: pd.DataFrame) -> OrderColumn | None:
    columns: tuple[OrderColumn, ...] = ("order", "taken")
    return next((column for column in columns if column in table and table[column].notna().any()), None)


def _check(sample: Sample, albums: Albums, together: Rows, *, table: pd.DataFrame) -> None:
    for members in albums.members():
        if len(set(sample.photographers[members])) > 1:
            name = table.set_index("id")["album"][sample.evidence.ids[members[0]]]
            raise InputError(f"album {name!r} holds photos by more than one author; give each author albums of its own")
    if not _enough(sample, together):
        raise InputError(
            f"{len(together)} photos by {len(set(sample.photographers[together]))} photographers have candidates, a "
            f"known place and another photo in their album; fitting takes {FEWEST_PHOTOS} photos by 2 photographers"
        )


def _enough(sample: Sample, rows: Rows) -> bool:
    return len(rows) >= FEWEST_PHOTOS and len(set(sample.photographers[rows])) >= 2


def _folds(sample: Sample, singles: tuple[Head, Head], *, seed: int) -> Iterator[_Fold]:
    """The folds: photographers are assigned at random to FOLDS folds, or to as many as there are photographers."""
    count = min(FOLDS, int(sample.photographers.max()) + 1)
    fold = photographer_folds(sample.photographers, folds=count, seed=seed)
    for number in np.unique(fold):
        train = np.flatnonzero(fold != number)
        heads = []
        for answered, given in zip((False, True), singles, strict=True):
            rows = train[sample.evidence.has_answers[train]] if answered else train
            heads.append(_single_head(sample, rows, answered=answered) if _enough(sample, rows) else given)
        yield _Fold(train=train, test=np.flatnonzero(fold == number), singles=(heads[0], heads[1]))


def _single_head(sample: Sample, rows: Rows, *, answered: bool) -> Head:
    return maximise(
        sample.evidence.take(rows),
        sample.latitude[rows],
        sample.longitude[rows],
        answered=answered,
        density=sample.density,
    )


def _fit(sample: Sample, albums: Albums, rows: Rows, *, folds: list[_Fold], whole: _Fold) -> AlbumFit:
    """The fit for photos `rows`; its head for answered photos is the shipped one if too few have an answer."""
    alone = _fit_head(sample.without_answers(), albums, rows, folds=folds, whole=whole)
    with_answers = rows[sample.evidence.has_answers[rows]]
    if _enough(sample, with_answers):
        answered = _fit_head(sample, albums, with_answers, folds=folds, whole=whole)
    else:
        shipped = album_part_of(shipped_refiner())
        ordered = shipped.ordered if np.isfinite(albums.order).any() else None
        answered = (ordered or shipped.unordered).answered
    rates = fit_rates(albums, sample.latitude, sample.longitude)
    return AlbumFit(rates=rates, alone=alone, answered=answered)


def _fit_head(sample: Sample, albums: Albums, rows: Rows, *, folds: list[_Fold], whole: _Fold) -> AlbumHead:
    """Fits on all, and calibrates on what fits on the other folds say of each fold."""
    held_out: dict[bool, list[tuple[Rows, FloatArray, FloatArray]]] = {False: [], True: []}
    for fold in folds:
        test = np.intersect1d(rows, fold.test)
        if len(test) == 0:
            continue
        view = _view(sample, albums, fold)
        head = _maximised(sample, view, np.intersect1d(rows, fold.train))
        for snaps, parts in held_out.items():
            found = locate_in_album(view, test, head=replace(head, snaps=snaps))
            error = haversine_km(found[0], found[1], sample.latitude[test], sample.longitude[test])
            parts.append((test, error, found[2]))
    errors = {snaps: np.concatenate([error for _, error, _ in parts]) for snaps, parts in held_out.items()}
    snaps = bool(np.mean(errors[True] <= 1) > np.mean(errors[False] <= 1))
    calibration = calibrate(
        mass=np.concatenate([mass for _, _, mass in held_out[snaps]]),
        error_km=errors[snaps],
        photographers=pd.factorize(sample.photographers[np.concatenate([test for test, _, _ in held_out[snaps]])])[0],
    )
    head = _maximised(sample, _view(sample, albums, whole), rows)
    return replace(head, snaps=snaps, calibration=calibration)


def _view(sample: Sample, albums: Albums, fold: _Fold) -> AlbumView:
    """All photos as the fits on the fold's training photographers show them."""
    train = fold.train
    rates = fit_rates(albums.take(train), sample.latitude[train], sample.longitude[train])
    return view_albums(
        sample.evidence, albums, singles=fold.singles, rates=rates, density=sample.density, trust=sample.trust
    )


def _maximised(sample: Sample, view: AlbumView, rows: Rows) -> AlbumHead:
    return maximise_album(view, rows, truth_xyz=unit_vectors(sample.latitude[rows], sample.longitude[rows]))
