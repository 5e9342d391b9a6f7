"""Input tables of refinement: candidates, answers, albums, photos with known places and predictions, validated.

Invalid input raises InputError that names file, line and column.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from dualgeo_core.base.csv_files import as_text, from_text, read_csv, record_lines
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_file

ANSWERED = "answered"
VIEW_SIMILARITIES = ("encoder_similarity", "mask_similarity")  # of query and candidate, before training
SCORES = ("similarity", "gps_score")  # by the retriever, and by a GPS encoder for photo and place
PREDICTION_COLUMNS = (
    "id",
    "latitude",
    "longitude",
    "radius_50_km",
    "radius_90_km",
    "confidence_25km",
    "cluster",
    "place",
    "likeness",
    "status",
)


def read_candidates(path: Path) -> pd.DataFrame:
    """Retrieved gallery photos: id, kind (similar|dissimilar), rank (1 is best), latitude, longitude, and scores.

    The scores are those of SCORES and VIEW_SIMILARITIES that the file has. Ranks are unique per id and kind; positions
    are on Earth; scores are finite.
    """
    frame = _read(path, required=("id", "kind", "rank", "latitude", "longitude"))
    _require(path, frame, "kind", frame["kind"].isin(["similar", "dissimilar"]), "is neither similar nor dissimilar")
    rank = _numbers(path, frame, "rank")
    _require(path, frame, "rank", (rank >= 1) & (rank % 1 == 0), "is not an integer of at least 1")
    frame["rank"] = rank.astype(np.int64)
    _check_positions(path, frame, needed=np.ones(len(frame), bool))
    twice = frame.duplicated(["id", "kind", "rank"])
    _require(path, frame, "rank", ~twice, "occurs twice for this id and kind; keep one row per rank")
    for column in (*SCORES, *VIEW_SIMILARITIES):
        if column in frame:
            frame[column] = _numbers(path, frame, column)
    return frame


def read_answers(path: Path) -> pd.DataFrame:
    """Answers of a multimodal model: id, model, latitude, longitude, location[, granularity, status].

    Several answers per id are samples. A row whose status is not `answered` needs no position.
    """
    frame = _read(path, required=("id", "latitude", "longitude"))
    frame["location"] = frame["location"].fillna("").astype(str) if "location" in frame else ""
    answered = (frame["status"] == ANSWERED) if "status" in frame else pd.Series(True, index=frame.index)
    _check_positions(path, frame, needed=answered.to_numpy())
    return frame


def read_truth(path: Path) -> pd.DataFrame:
    """Photos with known places: id (once each), latitude, longitude, author."""
    frame = _read(path, required=("id", "latitude", "longitude", "author"))
    _check_positions(path, frame, needed=np.ones(len(frame), bool))
    _require(path, frame, "id", ~frame.duplicated("id"), "occurs twice; keep one row per photo")
    return frame


def read_albums(path: Path) -> pd.DataFrame:
    """Which photos belong together: id (once each), album[, order or taken][, latitude, longitude].

    `order` is a number, `taken` a time, which is read as seconds since 1970; blank where it is not known. Photos with
    latitude and longitude are anchors; 0,0 counts as blank.
    """
    frame = _read(path, required=("id", "album"))
    _require(path, frame, "id", ~frame.duplicated("id"), "occurs twice; keep one row per photo")
    _require(path, frame, "album", frame["album"].notna(), "is not an album; name the album, or leave out the row")
    if "order" in frame and "taken" in frame:
        raise InputError(f"{path}, row 1: the columns order and taken exclude each other; leave out one of them")
    if "order" in frame:
        frame["order"] = _numbers(path, frame, "order", needed=frame["order"].notna().to_numpy())
    if "taken" in frame:
        frame["taken"] = _seconds(path, frame, "taken")
    if ("latitude" in frame) != ("longitude" in frame):
        raise InputError(f"{path}, row 1: latitude and longitude go together; give both columns or neither")
    if "latitude" in frame:
        blank = (frame["latitude"].isna() & frame["longitude"].isna()).to_numpy()
        _check_positions(path, frame, needed=~blank)
        frame.loc[(frame["latitude"] == 0) & (frame["longitude"] == 0), ["latitude", "longitude"]] = np.nan
    return frame


def read_predictions(path: Path) -> pd.DataFrame:
    """Predicted places: id (once each), latitude, longitude[, radius_50_km, radius_90_km, confidence_25km].

    A row without latitude and longitude is a photo without a prediction.
    """
    frame = _read(path, required=("id", "latitude", "longitude"))
    _require(path, frame, "id", ~frame.duplicated("id"), "occurs twice; keep one row per photo")
    blank = (frame["latitude"].isna() & frame["longitude"].isna()).to_numpy()
    _check_positions(path, frame, needed=~blank)
    for column in ("radius_50_km", "radius_90_km", "confidence_25km"):
        if column in frame:
            frame[column] = _numbers(path, frame, column, needed=~blank & frame[column].notna().to_numpy())
            _require(path, frame, column, ~(frame[column] < 0), "is negative")
    return frame


def check_known(path: Path, frame: pd.DataFrame, known: pd.Series, where: str) -> None:
    """Raises InputError if an id of `frame` is not among `known`; the message names the first such row."""
    _require(path, frame, "id", frame["id"].isin(known), f"is not in {where}")


def write_predictions(path: Path, predictions: pd.DataFrame) -> None:
    """Writes predictions as CSV. Texts that a spreadsheet would run as formulas are preceded by an apostrophe."""
    texts = {name: predictions[name].map(as_text) for name in ("id", "place")}
    with atomic_file(path) as temporary:
        predictions.assign(**texts).to_csv(temporary, index=False, float_format="%.6f")


def _read(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    texts = {"id": str, "location": str, "author": str, "album": str}
    # Only an empty cell is unknown: NA is an id, an author and an album.
    frame = read_csv(path, dtype=texts, keep_default_na=False, na_values=[""]).reset_index(drop=True)
    missing = [column for column in required if column not in frame]
    if missing:
        raise InputError(
            f"{path}, line 1: column {', '.join(missing)} is missing; the required columns are {', '.join(required)}"
        )
    if frame.empty:
        raise InputError(f"{path} has a header but no rows; add at least one row")
    _require(path, frame, "id", frame["id"].notna(), "is not an id")
    frame["id"] = frame["id"].map(from_text)
    return frame


def _check_positions(path: Path, frame: pd.DataFrame, needed: np.ndarray) -> None:
    for column, bound in (("latitude", 90), ("longitude", 180)):
        degrees = _numbers(path, frame, column, needed=needed)
        _require(path, frame, column, ~(degrees.abs() > bound), f"is outside -{bound}..{bound} degrees")
        frame[column] = degrees


def _numbers(path: Path, frame: pd.DataFrame, column: str, needed: np.ndarray | None = None) -> pd.Series:
    numbers = pd.to_numeric(frame[column], errors="coerce").astype(np.float64)
    missing = ~pd.Series(np.isfinite(numbers), index=frame.index) & (True if needed is None else needed)
    _require(path, frame, column, ~missing, "is not a number")
    return numbers


def _seconds(path: Path, frame: pd.DataFrame, column: str) -> pd.Series:
    """ISO times as seconds since 1970; those without a zone as if in UTC."""
    given = frame[column].notna()
    times = pd.to_datetime(frame[column].where(given).astype("string"), errors="coerce", utc=True, format="ISO8601")
    _require(path, frame, column, times.notna() | ~given, "is not a time such as 2008-05-17T14:03:00")
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()


def seconds_since_1970(time: datetime | None) -> float:
    """A time as a number; NaN if it is unknown. A time without a zone counts as UTC."""
    if time is None:
        return float("nan")
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _require(path: Path, frame: pd.DataFrame, column: str, holds: "pd.Series[bool]", fault: str) -> None:
    if holds.all():
        return
    row = int(np.argmin(holds.to_numpy()))
    value = frame[column].iloc[row]
    shown = "an empty cell" if pd.isna(value) else repr(value.item() if hasattr(value, "item") else value)
    raise InputError(f"{path}, line {record_lines(path)[row]}, column {column}: {shown} {fault}")
