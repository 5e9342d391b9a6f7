"""Albums against single photos by photographer-cross-validation: accuracy, and coverage of the 90 % radius.

    python benchmarks/refine_album.py CANDIDATES.csv PHOTOS.csv [ANSWERS.csv] [--albums ALBUMS.csv] [--splits 3]

Every fold is predicted by a refiner that was fitted and calibrated without its photographers. A split is one random
assignment of photographers to folds. Without --albums an album is all photos of one author, and the number that a
photo's id begins with, its Flickr id, is the order. The first control assigns a fold's photos at random to albums of
the same sizes. If one author took a large part of the fold, some photos of this author stay together. The second
control makes albums of photos of which no two are by one author.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices: threads only wait for each other

import numpy as np
import pandas as pd

from dualgeo_core.evaluation.scores import METRICS, evaluate
from dualgeo_core.photos.photographers import photographer_codes, photographer_folds
from dualgeo_core.refine.album.predict import album_part_of, album_posterior, albums_of
from dualgeo_core.refine.density import shipped_density
from dualgeo_core.refine.evidence import Evidence, gather_evidence
from dualgeo_core.refine.fit import FOLDS, fit_refiner
from dualgeo_core.refine.posterior import posterior
from dualgeo_core.refine.refiner import Refiner
from dualgeo_core.refine.tables import read_albums, read_answers, read_candidates, read_truth

COLUMNS = (*METRICS, "coverage_50", "coverage_90", "median_km", "median_radius_90_km")
SINGLE, ALBUM, UNORDERED = "single photo", "album", "album without order"
SHUFFLED, STRANGERS = "control: authors shuffled", "control: different authors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidates", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("answers", type=Path, nargs="?")
    parser.add_argument("--albums", type=Path)
    parser.add_argument("--splits", type=int, default=3, help="Number of random splits into folds.")
    arguments = parser.parse_args()
    candidates, truth = read_candidates(arguments.candidates), read_truth(arguments.photos)
    truth = truth[truth["id"].isin(candidates["id"])].reset_index(drop=True)
    answers = None if arguments.answers is None else read_answers(arguments.answers)
    albums = by_author(truth) if arguments.albums is None else read_albums(arguments.albums)
    scores = []
    for split in range(arguments.splits):
        found = cross_validate(candidates=candidates, answers=answers, truth=truth, albums=albums, seed=split)
        for (told, method), predictions in found.groupby(["answers", "method"], sort=False):
            score = evaluate(predictions=predictions, truth=truth, bootstrap_samples=1)
            scores.append({"answers": told, "method": method, **{name: score[name] for name in COLUMNS}})
        print(f"split {split}", flush=True)
        show(pd.DataFrame(scores[-len(scores) // (split + 1) :]))
    print(f"mean of {arguments.splits} splits")
    show(pd.DataFrame(scores))


def by_author(truth: pd.DataFrame) -> pd.DataFrame:
    """An album per author, in the order of Flickr ids."""
    flickr_id = truth["id"].str.extract(r"^(\d+)_")[0].astype(float)
    return pd.DataFrame({"id": truth["id"], "album": truth["author"], "order": flickr_id})


def cross_validate(
    *, candidates: pd.DataFrame, answers: pd.DataFrame | None, truth: pd.DataFrame, albums: pd.DataFrame, seed: int
) -> pd.DataFrame:
    """Held-out predictions of all photos by each method, with and without answers."""
    fold = photographer_folds(photographer_codes(truth), folds=FOLDS, seed=1000 + seed)
    parts = []
    for number in range(FOLDS):
        train, test = truth[fold != number], truth[fold == number]
        of_train, of_test = (albums[albums["id"].isin(part["id"])] for part in (train, test))
        refiner = fit_refiner(candidates=candidates, answers=answers, truth=train, albums=of_train, seed=seed)
        for told in (None,) if answers is None else (answers, None):
            evidence = gather_evidence(candidates=candidates, answers=told, ids=test["id"].tolist())
            for method, given in variants(of_test, seed=seed):
                found = located(evidence, given, refiner=refiner)
                parts.append(found.assign(answers="without" if told is None else "with", method=method))
    return pd.concat(parts, ignore_index=True)


def variants(albums: pd.DataFrame, *, seed: int) -> list[tuple[str, pd.DataFrame | None]]:
    """The methods, and the albums that each is given."""
    shuffled = albums.assign(album=np.random.default_rng(seed).permutation(albums["album"]))
    at_random = albums.sample(frac=1, random_state=seed)
    strangers = at_random.assign(album=at_random.groupby("album").cumcount())  # the first photo of each, the second ...
    without_order = albums.drop(columns=["order", "taken"], errors="ignore")
    return [(SINGLE, None), (ALBUM, albums), (UNORDERED, without_order), (SHUFFLED, shuffled), (STRANGERS, strangers)]


def located(evidence: Evidence, table: pd.DataFrame | None, *, refiner: Refiner) -> pd.DataFrame:
    """The predictions that `dualgeo refine` makes by `posterior`, or with a table of albums by `album`."""
    if table is None:
        found = posterior(evidence, refiner=refiner, density=shipped_density())
    else:
        albums = albums_of(table, evidence.ids.tolist(), part=album_part_of(refiner))
        found = album_posterior(evidence, albums, refiner=refiner, density=shipped_density())
    columns = ("latitude", "longitude", "radius_50_km", "radius_90_km")
    return pd.DataFrame({"id": evidence.ids, **{column: getattr(found, column) for column in columns}})


def show(scores: pd.DataFrame) -> None:
    """The mean of each method."""
    mean = scores.groupby(["answers", "method"], sort=False)[list(COLUMNS)].mean()
    print(mean.rename(columns=lambda name: name.removesuffix("_km")).round(2).to_string(), flush=True)


if __name__ == "__main__":
    main()
