"""Predictions from evidence: the methods by name, and the table of predictions."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import THRESHOLDS_KM, FloatArray, haversine_km
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.refine.album.albums import Albums, anchors_beside
from dualgeo_core.refine.album.predict import album_part_of, album_posterior, albums_of, beside, readings
from dualgeo_core.refine.calibration import SURENESS
from dualgeo_core.refine.clusters import dbscan_labels, labels_by_mass
from dualgeo_core.refine.density import PhotoDensity, shipped_density
from dualgeo_core.refine.evidence import Evidence, gather_evidence
from dualgeo_core.refine.places import place_names
from dualgeo_core.refine.posterior import Posterior, posterior
from dualgeo_core.refine.refiner import Refiner, load_refiner, shipped_refiner
from dualgeo_core.refine.tables import PREDICTION_COLUMNS
from dualgeo_core.settings import RefinementSettings, RefineMethod

CHUNK = 4096
FITTED_METHODS: tuple[RefineMethod, ...] = ("posterior", "album")  # they read a refiner, answers, and give radii


def predict(
    *,
    candidates: pd.DataFrame,
    answers: pd.DataFrame | None,
    method: RefineMethod,
    params: Refiner | None,
    settings: RefinementSettings,
    ids: Sequence[str] | None = None,
    density: PhotoDensity | None = None,
    albums: pd.DataFrame | None = None,
    with_clusters: bool = True,
    progress: Progress = silent,
) -> pd.DataFrame:
    """One row of PREDICTION_COLUMNS for each of `ids`, or for each photo in candidates and answers.

    The methods `posterior` and `album` use `params` (default: the file in the settings, or the shipped fit) and
    `density` (default: the shipped sample); `album` also uses `albums` (read_albums). The other methods read only the
    candidates and predict no radius. `cluster` is the number of the HDBSCAN cluster, 0 = heaviest; -1 = no cluster, or
    not `with_clusters`. `likeness` is a p-value, NaN if it is not known. `status` is `ok`, `no_answer` (answers were
    given, but none is usable for this photo), `no_candidates` (only an answer) or `anchor` (the albums give the
    position). Without a position it is `no_evidence`, `abstained` (settings.max_risk) or `unlike_gallery`
    (settings.least_likeness). Raises InputError if `max_risk` cannot be kept, or if albums are missing or do not fit
    the refiner.
    """
    evidence = gather_evidence(candidates=candidates, answers=answers, ids=ids)
    count = len(evidence)
    refiner = params or refiner_of(settings) if method in FITTED_METHODS else None
    gathered = None
    if method == "album" and refiner is not None:
        evidence, gathered = _with_albums(evidence, albums, candidates=candidates, answers=answers, refiner=refiner)
    batches = gathered.batches(CHUNK) if gathered is not None else _batches(len(evidence))
    parts, rows = [pd.DataFrame(columns=list(PREDICTION_COLUMNS))], [np.arange(0)]
    for batch in batches:
        chunk = evidence.take(batch)
        if refiner is None:
            found = _chosen(chunk, method=method, settings=settings)
        elif gathered is None:
            found = posterior(chunk, refiner=refiner, density=density or shipped_density())
        else:
            of_chunk = gathered.take(batch)
            found = album_posterior(chunk, of_chunk, refiner=refiner, density=density or shipped_density())
        parts.append(_table(chunk, found, settings=settings, with_clusters=with_clusters))
        rows.append(batch)
        progress("refine", sum(map(len, rows)), len(evidence))
    predictions = pd.concat(parts[1:] or parts, ignore_index=True)
    predictions = predictions.iloc[np.argsort(np.concatenate(rows))].reset_index(drop=True)
    predictions["status"] = _status(evidence, gathered, method=method, answers_given=answers is not None)
    if refiner is not None and settings.max_risk is not None:
        _abstain(predictions, evidence, gathered, refiner=refiner, max_risk=settings.max_risk)
    _withhold_unlike(predictions, evidence, gathered, least_likeness=settings.least_likeness)
    return predictions[list(PREDICTION_COLUMNS)].iloc[:count]


def _batches(count: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, count, CHUNK):
        yield np.arange(start, min(start + CHUNK, count))


def _with_albums(
    evidence: Evidence,
    albums: pd.DataFrame | None,
    *,
    candidates: pd.DataFrame,
    answers: pd.DataFrame | None,
    refiner: Refiner,
) -> tuple[Evidence, Albums]:
    """The albums of all queries, with anchors that are no query after them, and the evidence on all of these."""
    if albums is None:
        raise InputError("the method album needs albums: give --albums ALBUMS.csv")
    queries = evidence.ids.tolist()
    ids = [*queries, *anchors_beside(albums, queries)]
    if len(ids) > len(queries):
        evidence = gather_evidence(candidates=candidates, answers=answers, ids=ids)
    return evidence, albums_of(albums, ids, part=album_part_of(refiner))


def refiner_of(settings: RefinementSettings) -> Refiner:
    """The refiner of `settings.params_file`, or the shipped one."""
    return shipped_refiner() if settings.params_file is None else load_refiner(Path(settings.params_file))


def _table(evidence: Evidence, found: Posterior, *, settings: RefinementSettings, with_clusters: bool) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": evidence.ids,
            "latitude": found.latitude,
            "longitude": found.longitude,
            "radius_50_km": found.radius_50_km,
            "radius_90_km": found.radius_90_km,
            "confidence_25km": found.confidence[:, THRESHOLDS_KM.index(25)],
            "cluster": _clusters(evidence, found, settings=settings) if with_clusters else -1,
            "place": place_names(found.latitude, found.longitude),
            "likeness": found.likeness,
        }
    )


def _abstain(
    predictions: pd.DataFrame, evidence: Evidence, albums: Albums | None, *, refiner: Refiner, max_risk: float
) -> None:
    """Blanks predictions that are too unsure for `max_risk` (`Calibration.least_confidence`)."""
    bounds = [head.calibration.least_confidence(max_risk) for head in (refiner.alone, refiner.answered)]
    if not np.isfinite(bounds).any():
        raise InputError(
            f"max_risk {max_risk:g} cannot be kept with a probability of {SURENESS:g}: the refiner is calibrated on "
            "too few photos, or too many of its answers are over 25 km off; raise max_risk, or fit it on more photos"
        )
    least = np.where(evidence.has_answers, bounds[1], bounds[0])
    if albums is not None:
        for reading in readings(evidence, albums, part=album_part_of(refiner)):
            least[reading.rows] = reading.head.calibration.least_confidence(max_risk)
        least[albums.is_anchor] = 0
    unsure = (predictions["confidence_25km"] < least) & predictions["latitude"].notna()
    _withhold(predictions, unsure.to_numpy(), status="abstained")


def _withhold_unlike(
    predictions: pd.DataFrame, evidence: Evidence, albums: Albums | None, *, least_likeness: float
) -> None:
    """Blanks predictions of photos unlike the gallery, unless an answer or another photo of the album tells more."""
    unlike = (predictions["likeness"] < least_likeness).to_numpy() & ~evidence.has_answers
    if albums is not None:
        unlike &= ~albums.is_anchor & ~beside(albums, ~unlike & (evidence.has_candidates | albums.is_anchor))
    _withhold(predictions, unlike, status="unlike_gallery")


def _withhold(predictions: pd.DataFrame, rows: NDArray[np.bool_], *, status: str) -> None:
    """Blanks the predictions `rows` (n,), except for their likeness."""
    if not rows.any():  # writing to no row takes pandas milliseconds
        return
    blank = ["latitude", "longitude", "radius_50_km", "radius_90_km", "confidence_25km"]
    predictions.loc[rows, blank] = np.nan
    predictions.loc[rows, "cluster"] = -1
    predictions.loc[rows, "place"] = ""
    predictions.loc[rows, "status"] = status


def _chosen(evidence: Evidence, *, method: RefineMethod, settings: RefinementSettings) -> Posterior:
    """The candidate of each query that a method of CANDIDATE_METHODS chooses, without a radius."""
    choose = CANDIDATE_METHODS[method]
    nothing = np.full(len(evidence), np.nan)
    latitude, longitude = nothing.copy(), nothing.copy()
    for row in np.flatnonzero(evidence.has_candidates):
        known = np.isfinite(evidence.latitude[row])
        points = evidence.latitude[row, known], evidence.longitude[row, known], evidence.similarity[row, known]
        column = choose(*points, settings)
        latitude[row], longitude[row] = points[0][column], points[1][column]
    unsure = np.full((len(evidence), len(THRESHOLDS_KM)), np.nan)
    return Posterior(
        latitude, longitude, radius_50_km=nothing, radius_90_km=nothing, confidence=unsure, likeness=nothing
    )


def _rank1(latitude: FloatArray, longitude: FloatArray, similarity: FloatArray, settings: RefinementSettings) -> int:
    return 0


def _dbscan(latitude: FloatArray, longitude: FloatArray, similarity: FloatArray, settings: RefinementSettings) -> int:
    """The candidate nearest to the mean latitude and longitude of the largest cluster, as in the paper's code."""
    labels = dbscan_labels(latitude, longitude, radius_km=settings.dbscan_radius_km)
    sizes = np.bincount(labels[labels >= 0])
    members = np.flatnonzero(labels == sizes.argmax()) if len(sizes) else np.arange(len(labels))
    centre = latitude[members].mean(), longitude[members].mean()
    return int(members[haversine_km(*centre, latitude[members], longitude[members]).argmin()])


def _hdbscan(latitude: FloatArray, longitude: FloatArray, similarity: FloatArray, settings: RefinementSettings) -> int:
    """The best-ranked candidate of the heaviest cluster; rank 1 if there is no cluster."""
    labels = labels_by_mass(latitude, longitude, similarity, radius_km=settings.cluster_radius_km)
    return int(np.argmax(labels == 0))


Choice = Callable[[FloatArray, FloatArray, FloatArray, RefinementSettings], int]
CANDIDATE_METHODS: dict[RefineMethod, Choice] = {"rank1": _rank1, "dbscan": _dbscan, "hdbscan": _hdbscan}


def _clusters(evidence: Evidence, found: Posterior, *, settings: RefinementSettings) -> NDArray[np.int64]:
    """The cluster of the candidate nearest to each position; -1 = no cluster, or none within the cluster radius."""
    clusters = np.full(len(evidence), -1, dtype=np.int64)
    for row in np.flatnonzero(evidence.has_candidates & np.isfinite(found.latitude)):
        known = np.isfinite(evidence.latitude[row])
        latitude, longitude = evidence.latitude[row, known], evidence.longitude[row, known]
        distance = haversine_km(found.latitude[row], found.longitude[row], latitude, longitude)
        if distance.min() <= settings.cluster_radius_km:
            labels = labels_by_mass(
                latitude, longitude, evidence.similarity[row, known], radius_km=settings.cluster_radius_km
            )
            clusters[row] = labels[distance.argmin()]
    return clusters


def _status(
    evidence: Evidence, albums: Albums | None, *, method: RefineMethod, answers_given: bool
) -> NDArray[np.object_]:
    reads_answers = method in FITTED_METHODS and answers_given
    status = np.full(len(evidence), "ok", dtype=object)
    if reads_answers:
        status[~evidence.has_answers] = "no_answer"
        status[~evidence.has_candidates] = "no_candidates"
        status[~evidence.has_candidates & ~evidence.has_answers] = "no_evidence"
    else:
        status[~evidence.has_candidates] = "no_evidence"
    if albums is not None:
        status[albums.is_anchor] = "anchor"
    return status
