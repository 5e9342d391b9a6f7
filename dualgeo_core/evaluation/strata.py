"""Coverage of the radii by stratum: benchmark, hour, region, similarity, and density of the gallery."""

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from dualgeo_core.base.geo import EARTH_RADIUS_KM, unit_vectors
from dualgeo_core.evaluation.scores import FEWEST_PHOTOGRAPHERS, errors_km
from dualgeo_core.photos.photographers import photographer_codes

FEWEST_PHOTOS = 20  # in a stratum that is reported as the worst
DENSITY_KM = 25.0
_HOURS = {
    "night (21-5 h)": (21, 5),
    "morning (5-10 h)": (5, 10),
    "day (10-16 h)": (10, 16),
    "evening (16-21 h)": (16, 21),
}
_DENSITIES = {"no gallery photo": (0, 1), "1-9 gallery photos": (1, 10), "10 or more": (10, np.inf)}


def with_strata(
    predictions: pd.DataFrame, truth: pd.DataFrame, *, similarity: "pd.Series[float]", gallery: pd.DataFrame
) -> pd.DataFrame:
    """One row per photo of `truth`: error, radii, photographer, and the stratum of each kind.

    `similarity` is that of the best candidate, by photo id. The hour is read from the column `hour`, if there is one.
    """
    found = predictions.set_index("id").loc[truth["id"]].reset_index()
    return pd.DataFrame(
        {
            "error_km": errors_km(predictions, truth),
            "radius_50_km": found["radius_50_km"],
            "radius_90_km": found["radius_90_km"],
            "photographer": truth["author"].astype(object).to_numpy(),
            "hour": _hours(truth["hour"]) if "hour" in truth else None,
            "region": regions(truth["latitude"], truth["longitude"]),
            "similarity": similarity.reindex(truth["id"]).to_numpy(np.float64),
            "gallery density": _densities(truth, gallery),
        }
    )


def coverage_by_stratum(photos: pd.DataFrame) -> pd.DataFrame:
    """Photos, photographers, accuracy at 25 km and coverage of the radii (%) of each stratum.

    `photos` are rows of `with_strata` with a column `benchmark`. Similarity is split at its deciles.
    """
    photos = photos.assign(similarity=_deciles(photos["similarity"]))
    rows = [_row("all", "all", photos)]
    for kind in ("benchmark", "hour", "region", "similarity", "gallery density"):
        rows += [_row(kind, str(name), part) for name, part in photos.groupby(kind, sort=True) if len(part)]
    return pd.DataFrame(rows)


def worst_stratum(table: pd.DataFrame) -> pd.DataFrame:
    """The row of `coverage_by_stratum` whose 90 % radius is farthest from 90 %, of those with enough photos.

    Empty if no stratum has FEWEST_PHOTOS photos by FEWEST_PHOTOGRAPHERS.
    """
    known = table[
        (table["kind"] != "all")
        & (table["photos"] >= FEWEST_PHOTOS)
        & (table["photographers"] >= FEWEST_PHOTOGRAPHERS)
        & table["coverage_90"].notna()
    ]
    return known.loc[(known["coverage_90"] - 90).abs().sort_values(ascending=False).index[:1]]


def regions(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.object_]:
    """A rough part of the world for each point, by latitude and longitude alone."""
    lat, lon = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    west, east = lon < -30, lon >= 60
    names = np.where(lat >= 36, "Europe", "Africa and Near East")
    names = np.where(east, np.where(lat >= -10, "Asia", "Oceania"), names)
    return np.where(west, np.where(lat >= 13, "North America", "South America"), names).astype(object)


def _row(kind: str, name: str, part: pd.DataFrame) -> dict[str, object]:
    located = part[np.isfinite(part["error_km"]) & part["radius_90_km"].notna()]
    codes = photographer_codes(part.rename(columns={"photographer": "author"}).reset_index(drop=True))
    return {
        "kind": kind,
        "stratum": name,
        "photos": len(part),
        "photographers": len(set(codes)),
        "without position": int((~np.isfinite(part["error_km"])).sum()),
        "acc_25km": 100 * float((part["error_km"] <= 25).mean()),
        **{
            f"coverage_{level}": 100 * float((located["error_km"] <= located[f"radius_{level}_km"]).mean())
            if len(located)
            else np.nan
            for level in (50, 90)
        },
    }


def _hours(hour: "pd.Series[float]") -> NDArray[np.object_]:
    names = np.full(len(hour), None, dtype=object)
    for name, (first, last) in _HOURS.items():
        inside = (hour >= first) & (hour < last) if first < last else (hour >= first) | (hour < last)
        names[inside.to_numpy()] = name
    return names


def _densities(truth: pd.DataFrame, gallery: pd.DataFrame) -> NDArray[np.object_]:
    tree = cKDTree(unit_vectors(gallery["latitude"], gallery["longitude"]))
    chord = 2 * np.sin(DENSITY_KM / EARTH_RADIUS_KM / 2)
    near = tree.query_ball_point(unit_vectors(truth["latitude"], truth["longitude"]), chord, return_length=True)
    names = np.full(len(truth), None, dtype=object)
    for name, (least, most) in _DENSITIES.items():
        names[(near >= least) & (near < most)] = f"{name} within {DENSITY_KM:g} km"
    return names


def _deciles(similarity: "pd.Series[float]") -> "pd.Series[str]":
    tenths = 10 * similarity.rank(pct=True)
    return tenths.map(lambda tenth: f"decile {max(1, math.ceil(tenth)):02d} of best similarity", na_action="ignore")
