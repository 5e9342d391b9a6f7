"""Splits by photographer: photos of one author stay together, and photos of unknown authors are never held out."""

import numpy as np
import pandas as pd
import pytest

from dualgeo_core.photos.photographers import is_query_photographer, photographer_folds, split_by_photographer
from dualgeo_core.settings import TrainingSettings


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_photographers_whole_and_are_of_about_the_same_size(seed: int) -> None:
    photographers = np.repeat(np.arange(30), np.arange(1, 31))
    np.random.default_rng(0).shuffle(photographers)
    fold = photographer_folds(photographers, folds=5, seed=seed)
    assert pd.Series(fold).groupby(photographers).nunique().eq(1).all()
    sizes = np.bincount(fold, minlength=5)
    assert sizes.min() > 0.5 * sizes.mean()
    assert sizes.max() < 1.5 * sizes.mean()


@pytest.mark.parametrize("photographers", [2, 3, 5])
def test_no_fold_is_empty_however_few_the_photographers(photographers: int) -> None:
    codes = np.repeat(np.arange(photographers), np.arange(photographers) + 20)
    for seed in range(60):
        fold = photographer_folds(codes, folds=photographers, seed=seed)
        assert sorted(set(fold)) == list(range(photographers))


def test_folds_follow_their_seed() -> None:
    photographers = np.repeat(np.arange(20), 5)
    folds = [photographer_folds(photographers, folds=4, seed=seed).tolist() for seed in (0, 0, 1)]
    assert folds[0] == folds[1] != folds[2]


def test_photos_of_unknown_photographers_are_trained_on() -> None:
    authors = [f"author {row}" for row in range(40)] + [None, float("nan")] * 20
    frame = pd.DataFrame({"author": pd.Series(authors, dtype=object)})
    split = split_by_photographer(frame, TrainingSettings(validation_share=0.5))
    assert set(range(40, 80)) <= set(split.training)
    assert 10 < len(split.queries) < 30


def test_photos_of_unknown_photographers_are_gallery() -> None:
    assert is_query_photographer("somebody", share=1.0)
    assert not is_query_photographer(None, share=1.0)
    assert not is_query_photographer(float("nan"), share=1.0)  # type: ignore[arg-type]  # as pandas gives a blank
