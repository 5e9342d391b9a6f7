"""The evidence about each query as dense arrays: one row per query; missing values are NaN."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import FloatArray
from dualgeo_core.refine.granularity import GRANULARITIES, granularity_of
from dualgeo_core.refine.tables import ANSWERED, SCORES, VIEW_SIMILARITIES


@dataclass(frozen=True)
class Evidence:
    """Candidates (n, k) by rank and answers (n, a) of n queries, in degrees; missing values are NaN."""

    ids: NDArray[np.object_]
    latitude: FloatArray
    longitude: FloatArray
    similarity: FloatArray
    gps_score: FloatArray
    encoder_similarity: FloatArray
    mask_similarity: FloatArray
    answer_latitude: FloatArray
    answer_longitude: FloatArray
    answer_granularity: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_candidates(self) -> NDArray[np.bool_]:
        """Whether each query has a candidate, (n,)."""
        return np.asarray(np.isfinite(self.latitude).any(axis=1))

    @property
    def has_answers(self) -> NDArray[np.bool_]:
        """Whether each query has a usable answer, (n,)."""
        return np.asarray(np.isfinite(self.answer_latitude).any(axis=1))

    def take(self, rows: slice | NDArray[np.int64]) -> "Evidence":
        """The evidence of the queries `rows`."""
        return Evidence(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def without_answers(self) -> "Evidence":
        """The candidates alone."""
        answers = ("answer_latitude", "answer_longitude", "answer_granularity")
        return replace(self, **{name: getattr(self, name)[:, :0] for name in answers})


def gather_evidence(
    *, candidates: pd.DataFrame, answers: pd.DataFrame | None, ids: Sequence[str] | None = None
) -> Evidence:
    """The evidence about `ids`, or about every photo in candidates and answers, in order of appearance.

    Raises InputError if `ids` is None and candidates and answers have no photo in common.
    """
    similar = candidates[candidates["kind"] == "similar"] if "kind" in candidates else candidates
    usable = None if answers is None else usable_answers(answers)
    if ids is None:
        named = [candidates["id"]] if answers is None else [candidates["id"], answers["id"]]
        if answers is not None and len(answers) and not answers["id"].isin(candidates["id"]).any():
            raise InputError("no answer is about a photo of the candidates; give answers about the same photos")
        ids = pd.concat(named).drop_duplicates().tolist()
    queries = np.array(list(ids), dtype=object)
    row_of = pd.Series(np.arange(len(queries)), index=queries)
    ranked = similar.sort_values("rank", kind="stable")
    columns = ("latitude", "longitude", *SCORES, *VIEW_SIMILARITIES)
    latitude, longitude, similarity, gps_score, encoder, mask = _dense(ranked, row_of, columns)
    answer_latitude, answer_longitude, granularity = _dense(usable, row_of, ("latitude", "longitude", "granularity"))
    return Evidence(
        ids=queries,
        latitude=latitude,
        longitude=longitude,
        similarity=similarity,
        gps_score=gps_score,
        encoder_similarity=encoder,
        mask_similarity=mask,
        answer_latitude=answer_latitude,
        answer_longitude=answer_longitude,
        answer_granularity=granularity.astype(object),
    )


def usable_answers(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers that count as evidence, with a column `granularity`.

    An answer counts if its status is `answered`, it has a position other than 0,0, and its text names a place.
    """
    zero = (answers["latitude"] == 0) & (answers["longitude"] == 0)
    answered = (answers["status"] == ANSWERED) if "status" in answers else True
    usable = answers[answers["latitude"].notna() & answers["longitude"].notna() & ~zero & answered]
    granularity = granularity_of(usable["location"], usable["latitude"], usable["longitude"])
    if "granularity" in usable:  # the model's own granularity takes precedence over its text
        stated = usable["granularity"].isin(GRANULARITIES).to_numpy()
        granularity = np.where(stated, usable["granularity"], granularity)
    return usable.assign(granularity=granularity)[granularity != "unknown"]


def _dense(frame: pd.DataFrame | None, row_of: "pd.Series[int]", columns: tuple[str, ...]) -> list[NDArray[Any]]:
    """Each column as (queries, largest number of rows of a query), in the order of the frame."""
    if frame is None or frame.empty:
        return [np.full((len(row_of), 0), np.nan) for _ in columns]
    rows = row_of.reindex(frame["id"]).to_numpy(np.float64)
    known = np.isfinite(rows)
    row = rows[known].astype(np.int64)
    place = frame.groupby("id", sort=False).cumcount().to_numpy()[known]
    width = int(place.max()) + 1 if len(place) else 0
    dense = []
    for column in columns:
        values = frame[column].to_numpy()[known] if column in frame else np.full(len(row), np.nan)
        table = np.full((len(row_of), width), np.nan, dtype=object if values.dtype == object else np.float64)
        table[row, place] = values
        dense.append(table)
    return dense
