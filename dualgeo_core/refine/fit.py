"""Fits the refiner by maximum likelihood of the true places, and calibrates it on held-out photographers."""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.geo import FloatArray, haversine_km
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.photographers import photographer_codes, photographer_folds
from dualgeo_core.refine.album.fit import Sample, fit_album_part
from dualgeo_core.refine.calibration import calibrate
from dualgeo_core.refine.density import PhotoDensity, shipped_density
from dualgeo_core.refine.evidence import Evidence, gather_evidence
from dualgeo_core.refine.likelihood import maximise
from dualgeo_core.refine.likeness import fit_likeness, trust_of
from dualgeo_core.refine.posterior import CHUNK, locate
from dualgeo_core.refine.refiner import Head, Refiner, shipped_refiner

FEWEST_QUERIES = 50
FOLDS = 5


def fit_refiner(
    *,
    candidates: pd.DataFrame,
    answers: pd.DataFrame | None,
    truth: pd.DataFrame,
    albums: pd.DataFrame | None = None,
    density: PhotoDensity | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Refiner:
    """A refiner fitted on a retriever's candidates (and a model's answers) for photos with known places.

    The column `copy_of` of `truth`, if there is one, names the photo of which a row is a copy in other light.
    Similarities and GPS scores are used if the candidates have them. With too few answers, the head for answered
    queries is the shipped one. With `albums` (read_albums) the refiner gets an album part. Raises InputError if fewer
    than FEWEST_QUERIES photos or 2 photographers have candidates, or if `albums` are too few to fit on.
    """
    ids = truth["id"][truth["id"].isin(candidates["id"])].tolist()
    places = truth.set_index("id").loc[ids].reset_index()
    evidence = gather_evidence(candidates=candidates, answers=answers, ids=ids)
    photographers = photographer_codes(places)
    if len(ids) < FEWEST_QUERIES or len(set(photographers)) < 2:
        raise InputError(
            f"{len(ids)} photos by {len(set(photographers))} photographers have candidates and a known place; "
            f"fitting needs at least {FEWEST_QUERIES} photos by 2 photographers"
        )
    latitude, longitude = places["latitude"].to_numpy(np.float64), places["longitude"].to_numpy(np.float64)
    likeness, shares = fit_likeness(evidence, photographers, _originals(places))
    trust = trust_of(shares)
    heads: dict[bool, Head] = {}
    for answered, rows in ((False, np.arange(len(ids))), (True, np.flatnonzero(evidence.has_answers))):
        if answered and (len(rows) < FEWEST_QUERIES or len(set(photographers[rows])) < 2):
            heads[answered] = shipped_refiner().answered
            continue
        heads[answered] = _fit_head(
            evidence.take(rows),
            latitude[rows],
            longitude[rows],
            photographers=pd.factorize(photographers[rows])[0],
            answered=answered,
            density=density or shipped_density(),
            trust=np.ones(len(rows)) if answered else trust,
            seed=seed,
        )
        progress("fit refiner", 1 + answered, 2)
    data = {
        "queries": len(ids),
        "answered": int(evidence.has_answers.sum()),
        "photographers": int(photographers.max()) + 1,
        "fingerprint": fingerprint(
            candidates.to_csv(index=False), None if answers is None else answers.to_csv(index=False), truth.to_csv()
        ),
    }
    refiner = Refiner(alone=heads[False], answered=heads[True], data=data, likeness=likeness)
    if albums is None:
        return refiner
    sample = Sample(evidence, latitude, longitude, photographers, density or shipped_density(), trust)
    singles = (refiner.alone, refiner.answered)
    return replace(refiner, album=fit_album_part(sample, albums, singles=singles, seed=seed, progress=progress))


def _originals(places: pd.DataFrame) -> NDArray[np.int64]:
    """The row of the photo of which each row is a copy in other light; -1 for photos as they were taken."""
    if "copy_of" not in places:
        return np.full(len(places), -1)
    return pd.Index(places["id"]).get_indexer(places["copy_of"].where(places["copy_of"].notna(), ""))


def _fit_head(
    evidence: Evidence,
    latitude: FloatArray,
    longitude: FloatArray,
    *,
    photographers: NDArray[np.int64],
    answered: bool,
    density: PhotoDensity,
    trust: FloatArray,
    seed: int,
) -> Head:
    """A head fitted on all photos and calibrated on cross-validated predictions, with folds by photographer."""
    folds = min(FOLDS, int(photographers.max()) + 1)
    fold = photographer_folds(photographers, folds=folds, seed=seed)
    held_out: dict[bool, list[tuple[NDArray[np.int64], FloatArray, FloatArray]]] = {False: [], True: []}
    for number in np.unique(fold):
        rows = np.flatnonzero(fold != number)
        head = maximise(evidence.take(rows), latitude[rows], longitude[rows], answered=answered, density=density)
        test = np.flatnonzero(fold == number)
        for snaps in (False, True):
            error, mass = _errors(
                evidence.take(test),
                latitude[test],
                longitude[test],
                head=replace(head, snaps=snaps),
                density=density,
                trust=trust[test],
            )
            held_out[snaps].append((test, error, mass))
    near = {snaps: np.mean(np.concatenate([e for _, e, _ in parts]) <= 1) for snaps, parts in held_out.items()}
    snaps = bool(near[True] > near[False])
    rows = np.concatenate([test for test, _, _ in held_out[snaps]])
    calibration = calibrate(
        mass=np.concatenate([mass for _, _, mass in held_out[snaps]]),
        error_km=np.concatenate([error for _, error, _ in held_out[snaps]]),
        photographers=photographers[rows],
    )
    whole = maximise(evidence, latitude, longitude, answered=answered, density=density)
    return replace(whole, snaps=snaps, calibration=calibration)


def _errors(
    evidence: Evidence,
    latitude: FloatArray,
    longitude: FloatArray,
    *,
    head: Head,
    density: PhotoDensity,
    trust: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    errors, masses = [], []
    for start in range(0, len(evidence), CHUNK):
        part = slice(start, start + CHUNK)
        found_latitude, found_longitude, mass = locate(
            evidence.take(part), head=head, density=density, trust=trust[part]
        )
        errors.append(haversine_km(found_latitude, found_longitude, latitude[part], longitude[part]))
        masses.append(mass)
    return np.concatenate(errors), np.concatenate(masses)
