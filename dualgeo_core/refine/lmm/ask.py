"""Asks a multimodal model about many photos in parallel: a table of answers, and counts with the cost."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.photos.decode import UndecodableImage
from dualgeo_core.refine.clusters import clusters_of
from dualgeo_core.refine.lmm.answer import STATUSES, LmmAnswer, parse_answer
from dualgeo_core.refine.lmm.answers import ANSWER_COLUMNS
from dualgeo_core.refine.lmm.cache import ReplyCache, reply_key
from dualgeo_core.refine.lmm.client import Failed, Ledger, OverBudget, api_base_of, ask
from dualgeo_core.refine.lmm.prompt import SYSTEM, evidence_text, messages, photo_jpeg
from dualgeo_core.settings import LmmSettings


@dataclass(frozen=True)
class Question:
    """One photo, and the retrieval evidence about it as text."""

    photo_id: str
    jpeg: bytes
    text: str


def ask_photos(
    *,
    ids: Sequence[str],
    image: Callable[[str], Image.Image],
    candidates: pd.DataFrame,
    settings: LmmSettings,
    cluster_radius_km: float,
    replies: Path | None,
    progress: Progress = silent,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Answers (ANSWER_COLUMNS, `settings.samples` rows per photo, in the order of `ids`) and counts.

    `image(id)` returns the upright photo or raises UndecodableImage. Only rows with the status `answered` have a
    position; every other status gives the reason. Each reply is saved in the folder `replies`, if given, so a stopped
    run resumes and no question is paid for twice. The counts are `status <status>`, `fault <kind>` per failed attempt,
    calls, cached, prompt_tokens, completion_tokens, cost_usd, mean_latency_s and unpriced. Raises InputError if every
    model of the settings refuses access.
    """
    ledger = Ledger(max_cost_usd=settings.max_cost_usd)
    cache = ReplyCache(replies)
    of_photo = dict(tuple(candidates.groupby("id", sort=False)))

    def answer(photo_id: str) -> list[dict[str, Any]]:
        try:
            jpeg = photo_jpeg(image(photo_id), longest_side=settings.image_size)
        except UndecodableImage as error:
            return [
                _row(photo_id, sample, LmmAnswer("undecodable"), reason=str(error))
                for sample in range(settings.samples)
            ]
        text = _describe(of_photo.get(photo_id), cluster_radius_km=cluster_radius_km)
        question = Question(photo_id=photo_id, jpeg=jpeg, text=text)
        return [
            _answer_once(question, sample=sample, settings=settings, replies=cache, ledger=ledger)
            for sample in range(settings.samples)
        ]

    rows: dict[str, list[dict[str, Any]]] = {}
    with ThreadPoolExecutor(max_workers=settings.concurrency) as pool:
        asked = {pool.submit(answer, photo_id): photo_id for photo_id in ids}
        try:
            for done, future in enumerate(as_completed(asked), start=1):
                rows[asked[future]] = future.result()
                progress("lmm answers", done, len(asked))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    frame = pd.DataFrame([row for photo_id in ids for row in rows[photo_id]], columns=list(ANSWER_COLUMNS))
    return frame, _counts(frame, ledger)


def _answer_once(
    question: Question, *, sample: int, settings: LmmSettings, replies: ReplyCache, ledger: Ledger
) -> dict[str, Any]:
    assert settings.model is not None, "settings.model must be set"

    def key_of(model: str) -> str:
        return reply_key(
            jpeg_sha256=hashlib.sha256(question.jpeg).hexdigest(),
            system=SYSTEM,
            text=question.text,
            model=model,
            api_base=api_base_of(model, settings),
            temperature=settings.temperature,
            max_tokens=settings.max_tokens,
            sample=sample,
        )

    chat = messages(jpeg=question.jpeg, text=question.text)
    try:
        reply = ask(chat, settings=settings, ledger=ledger, replies=replies, key_of=key_of)
    except OverBudget:
        return _row(question.photo_id, sample, LmmAnswer("over_budget"), model=settings.model)
    except Failed as error:
        return _row(question.photo_id, sample, LmmAnswer("failed"), model=settings.model, reason=str(error))
    return _row(question.photo_id, sample, parse_answer(reply.text), model=reply.model)


def _row(photo_id: str, sample: int, answer: LmmAnswer, *, model: str = "", reason: str = "") -> dict[str, Any]:
    return {"id": photo_id, "model": model, "sample": sample, "reason": reason, **asdict(answer)}


def _describe(candidates: pd.DataFrame | None, *, cluster_radius_km: float) -> str:
    nothing = np.empty((0, 2))
    if candidates is None:
        return evidence_text(clusters=[], similar=nothing, dissimilar=nothing)
    ordered = candidates.sort_values("rank", kind="stable")
    similar, dissimilar = (ordered[ordered["kind"] == kind] for kind in ("similar", "dissimilar"))
    points = similar[["latitude", "longitude"]].to_numpy(np.float64)
    clusters = clusters_of(points[:, 0], points[:, 1], np.full(len(points), np.nan), radius_km=cluster_radius_km)
    return evidence_text(
        clusters=clusters, similar=points, dissimilar=dissimilar[["latitude", "longitude"]].to_numpy(np.float64)
    )


def _counts(frame: pd.DataFrame, ledger: Ledger) -> dict[str, float]:
    found = Counter(frame["status"])
    return {
        **{f"status {status}": float(found[status]) for status in STATUSES},
        **{f"fault {kind}": float(count) for kind, count in sorted(ledger.faults.items())},
        "calls": float(ledger.calls),
        "cached": float(ledger.cached),
        "prompt_tokens": float(ledger.prompt_tokens),
        "completion_tokens": float(ledger.completion_tokens),
        "cost_usd": ledger.cost_usd,
        "mean_latency_s": ledger.latency_s / max(ledger.calls, 1),
        "unpriced": float(ledger.unpriced),
    }
