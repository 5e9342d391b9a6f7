"""Who took which photo. Every split and every interval keeps the photos of one photographer together."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import TrainingSettings

VALIDATION_QUERIES, VALIDATION_GALLERY = 2_000, 50_000  # enough photos to decide which epoch is best


def photographer_codes(truth: pd.DataFrame) -> NDArray[np.int64]:
    """An integer per photo, the same for photos of one author; a photo without an author stands alone."""
    author = truth["author"] if "author" in truth else pd.Series(None, index=truth.index, dtype=object)
    alone = pd.Series([f"\0{row}" for row in range(len(truth))], index=truth.index)
    return pd.factorize(author.astype(object).where(author.notna(), alone))[0].astype(np.int64)


def is_query_photographer(author: str | None, share: float) -> bool:
    """The split by photographer: the same for a name in every set and on every machine; unknown ones are gallery."""
    if not isinstance(author, str):
        return False
    return int.from_bytes(hashlib.sha256(author.encode()).digest()[:8], "big") < share * 2**64


@dataclass(frozen=True)
class Split:
    """Rows of a gallery: to train on, held out to search with, and those of the former that are searched."""

    training: NDArray[np.int64]
    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]


def split_by_photographer(frame: pd.DataFrame, settings: TrainingSettings) -> Split:
    """A seeded share of photographers held out; photos of unknown photographers are trained on.

    Raises InputError where either side would be empty.
    """
    held_out = frame["author"].map(lambda name: _held_out(name, settings)).to_numpy(dtype=bool)
    training, queries = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if len(training) < 2 or len(queries) == 0:
        raise InputError(
            f"holding out {settings.validation_share:g} of the gallery's {frame['author'].nunique()} photographers "
            f"leaves {len(training)} photos to train on and {len(queries)} to validate with: "
            "change training.validation_share or training.validation_seed, or ingest photos of more photographers"
        )
    random = np.random.default_rng(settings.validation_seed)
    return Split(
        training=training,
        queries=np.sort(random.permutation(queries)[:VALIDATION_QUERIES]),
        gallery=np.sort(random.permutation(training)[:VALIDATION_GALLERY]),
    )


def _held_out(author: str | None, settings: TrainingSettings) -> bool:
    """Salted, so that it does not repeat the hash that split queries from gallery."""
    if not isinstance(author, str):
        return False
    digest = hashlib.sha256(f"validation {settings.validation_seed} {author}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < settings.validation_share * 2**64


def photographer_folds(photographers: NDArray[np.int64], *, folds: int, seed: int) -> NDArray[np.int64]:
    """A fold per photo: whole photographers, dealt at random to folds of about the same number of photos."""
    random = np.random.default_rng(seed)
    sizes = np.bincount(photographers)
    load = np.zeros(folds)
    fold_of = np.zeros(len(sizes), dtype=np.int64)
    for photographer in np.argsort(-(sizes + random.uniform(0, 20, len(sizes)))):
        fold = int(np.argmin(load + random.uniform(0, 40, folds)))
        fold_of[photographer] = fold
        load[fold] += sizes[photographer]
    return fold_of[photographers]
