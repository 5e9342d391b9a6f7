"""Cross-validation of the refiner by photographer: accuracy, spread over folds and splits, coverage of the radii.

    python benchmarks/refine_crossvalidation.py CANDIDATES.csv PHOTOS.csv [ANSWERS.csv] [--splits 3] [--max-risk 0.1]

Every fold is predicted by a refiner that was fitted and calibrated without its photographers. A split is one random
assignment of photographers to folds. For each --max-risk, the share of answers and their risk are printed if the unsure
abstain; a fold whose refiner cannot keep the risk gives no answer.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on small matrices threads are slower

import numpy as np
import pandas as pd

from dualgeo_core.base.errors import InputError
from dualgeo_core.evaluation.scores import METRICS, errors_km, evaluate
from dualgeo_core.photos.photographers import photographer_codes, photographer_folds
from dualgeo_core.refine.fit import FOLDS, fit_refiner
from dualgeo_core.refine.predict import predict
from dualgeo_core.refine.refiner import Refiner
from dualgeo_core.refine.tables import read_answers, read_candidates, read_truth
from dualgeo_core.settings import RefinementSettings

COLUMNS = (*METRICS, "median_km", "coverage_50", "coverage_90", "median_radius_50_km", "median_radius_90_km")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("candidates", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("answers", type=Path, nargs="?")
    parser.add_argument("--splits", type=int, default=3, help="Number of random splits into folds.")
    parser.add_argument("--max-risk", type=float, nargs="+", default=[], help="Shares of answers over 25 km off.")
    parser.add_argument("--out", type=Path, help="CSV for the held-out predictions of the first split.")
    arguments = parser.parse_args()
    candidates, truth = read_candidates(arguments.candidates), read_truth(arguments.photos)
    truth = truth[truth["id"].isin(candidates["id"])].reset_index(drop=True)
    answers = None if arguments.answers is None else read_answers(arguments.answers)
    scores, of_folds = [], []
    for split in range(arguments.splits):
        by_risk, by_fold = cross_validate(
            candidates=candidates, answers=answers, truth=truth, seed=split, max_risks=arguments.max_risk
        )
        predictions = by_risk[None]
        scores.append(evaluate(predictions=predictions, truth=truth, bootstrap_samples=1000))
        of_folds += by_fold
        print(f"split {split}: {shown(scores[-1])}", flush=True)
        for max_risk in arguments.max_risk:
            errors = errors_km(by_risk[max_risk], truth)
            given = np.isfinite(errors)
            wrong = float((errors[given] > 25).mean()) if given.any() else float("nan")
            print(f"risk {max_risk:g}: answered {given.mean():.1%}, of these over 25 km off {wrong:.1%}", flush=True)
        if split == 0 and arguments.out is not None:
            predictions.to_csv(arguments.out, index=False)
    mean = {name: float(np.mean([score[name] for score in scores])) for name in COLUMNS}
    print(f"mean: {shown(mean)}")
    print(f"spread over splits (standard deviation): {shown(spread(scores))}")
    print(f"spread over folds (standard deviation): {shown(spread(of_folds))}")
    intervals = [[round(bound, 1) for bound in scores[0][f"{metric}_interval"]] for metric in METRICS]
    print(f"95 % interval over photographers, split 0: {intervals}")
    print(json.dumps(mean))


def cross_validate(
    *,
    candidates: pd.DataFrame,
    answers: pd.DataFrame | None,
    truth: pd.DataFrame,
    seed: int,
    max_risks: Sequence[float],
) -> tuple[dict[float | None, pd.DataFrame], list[dict[str, float]]]:
    """Held-out predictions of all photos by maximum risk (None: without), and the scores of each fold without."""
    fold = photographer_folds(photographer_codes(truth), folds=FOLDS, seed=1000 + seed)
    parts: dict[float | None, list[pd.DataFrame]] = {None: [], **{max_risk: [] for max_risk in max_risks}}
    scores = []
    for number in range(FOLDS):
        train, test = truth[fold != number], truth[fold == number]
        refiner = fit_refiner(candidates=candidates, answers=answers, truth=train, seed=seed)
        for max_risk, found in parts.items():
            settings = RefinementSettings(max_risk=max_risk)
            found.append(predicted(refiner, test, candidates=candidates, answers=answers, settings=settings))
        scores.append(evaluate(predictions=parts[None][-1], truth=test, bootstrap_samples=1))
    return {max_risk: pd.concat(found, ignore_index=True) for max_risk, found in parts.items()}, scores


def predicted(
    refiner: Refiner,
    test: pd.DataFrame,
    *,
    candidates: pd.DataFrame,
    answers: pd.DataFrame | None,
    settings: RefinementSettings,
) -> pd.DataFrame:
    """The predictions of a fold's photos; none has a position if the maximum risk cannot be kept."""
    try:
        return predict(
            candidates=candidates[candidates["id"].isin(test["id"])],
            answers=None if answers is None else answers[answers["id"].isin(test["id"])],
            method="posterior",
            params=refiner,
            settings=settings,
            ids=test["id"].tolist(),
        )
    except InputError as error:
        print(error)
        return pd.DataFrame({"id": test["id"], "latitude": np.nan, "longitude": np.nan})


def spread(scores: list[dict[str, float]]) -> dict[str, float]:
    """Standard deviation of each column."""
    return {name: float(np.std([score[name] for score in scores])) for name in COLUMNS}


def shown(score: dict[str, float]) -> str:
    """The score's columns as one line."""
    return " ".join(f"{name.removesuffix('_km')} {score[name]:.2f}" for name in COLUMNS)


if __name__ == "__main__":
    main()
