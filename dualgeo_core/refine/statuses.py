"""Statuses of predictions, and what they mean in words."""

from collections.abc import Iterable

import pandas as pd

# Statuses of a prediction that has a position, and of one that has none.
PLACED = {
    "ok": "from all evidence",
    "no_answer": "from gallery photos alone: the multimodal model gave no usable answer",
    "no_candidates": "from the multimodal model's answer alone: there is no similar gallery photo",
    "anchor": "the position of the photo itself",
}
UNPLACED = {
    "no_evidence": "neither a similar gallery photo nor a usable answer",
    "abstained": "an answer would be too uncertain",
    "unlike_gallery": "the photo is unlike all photos of the calibration",
}
WITHOUT_STATUS = "the status is not given"
ABSENT = "the photo is not among the predictions"


def legend(predictions: pd.DataFrame, ids: Iterable[str] | None = None) -> list[str]:
    """Lines that count the photos with and without a position, and say why.

    `predictions` has the columns id, latitude, longitude[, status]. Photos of `ids` that it lacks have no position.
    """
    photos = predictions["id"] if ids is None else pd.Index(ids)
    found = predictions.set_index("id").reindex(photos)
    status = found["status"].fillna("") if "status" in found else pd.Series("", index=found.index)
    placed = found[["latitude", "longitude"]].notna().all(axis=1)
    absent = ~found.index.isin(predictions["id"])
    lines = []
    for title, rows, meanings in (("with", placed, PLACED), ("without", ~placed, UNPLACED)):
        lines.append(f"{rows.sum():6} {title} a position")
        for name, count in status[rows & ~absent].value_counts().items():
            meaning = meanings.get(str(name), WITHOUT_STATUS)
            lines.append(f"{count:10} {meaning}" + (f" ({name})" if name else ""))
    if absent.any():
        lines.append(f"{absent.sum():10} {ABSENT}")
    return lines
