"""Splits by photographer. Every split and every interval keeps the photos of one photographer together."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import TrainingSettings

VALIDATION_QUERIES, VALIDATION_GALLERY = 2_000, 50_000  # enough photos to decide which epoch is best


def photographer_codes(truth: pd.DataFrame) -> NDArray[np.int64]:
    """An integer per photo, the same for photos of one author. A photo without an author gets its own integer."""
    author = truth["author"] if "author" in truth else pd.Series(None, index=truth.index, dtype=object)
    alone = pd.Series([f"\0{row}" for row in range(len(truth))], index=truth.index)
    return pd.factorize(author.astype(object).where(author.notna(), alone))[0].astype(np.int64)


def is_query_photographer(author: str | None, share: float) -> bool:
    """Whether the photos of this author are queries, which holds for the given share of authors.

    The result depends only on the name and the share. Photos of unknown authors belong to the gallery.
    """
    if not isinstance(author, str):
        return False
    return int.from_bytes(hashlib.sha256(author.encode()).digest()[:8], "big") < share * 2**64


@dataclass(frozen=True)
class Split:
    """Rows of a gallery: training rows, held-out query rows, and the training rows that the queries search."""

    training: NDArray[np.int64]
    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]


def split_by_photographer(frame: pd.DataFrame, settings: TrainingSettings) -> Split:
    """A split that holds out a seeded share of the photographers. Photos of unknown authors are for training.

    Raises InputError if either side would be too small.
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
    """Whether this author is held out. A salt makes the hash independent of the split into queries and gallery."""
    if not isinstance(author, str):
        return False
    digest = hashlib.sha256(f"validation {settings.validation_seed} {author}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < settings.validation_share * 2**64


def photographer_folds(photographers: NDArray[np.int64], *, folds: int, seed: int) -> NDArray[np.int64]:
    """A fold number per photo. Photos of one photographer share a fold, and folds have similar numbers of photos.

    No fold is empty if there are at least `folds` photographers.
    """
    random = np.random.default_rng(seed)
    sizes = np.bincount(photographers)
    load = np.zeros(folds)
    fold_of = np.zeros(len(sizes), dtype=np.int64)
    for dealt, photographer in enumerate(np.argsort(-(sizes + random.uniform(0, 20, len(sizes))))):
        wanted = load + random.uniform(0, 40, folds)
        if len(sizes) - dealt <= (load == 0).sum():  # the last photographers fill the empty folds
            wanted[load > 0] = np.inf
        fold = int(np.argmin(wanted))
        fold_of[photographer] = fold
        load[fold] += sizes[photographer]
    return fold_of[photographers]
