"""`dualgeo refine`, `fit-refiner` and `evaluate`: stage 2 for the candidates of any retriever, from CSV to CSV."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import RefineMethod

if TYPE_CHECKING:
    from pandas import DataFrame

    from dualgeo_core.refine.refiner import Refiner

CandidatesFile = Annotated[
    Path,
    typer.Argument(
        metavar="CANDIDATES.csv",
        help="Candidates: id, kind (similar|dissimilar), rank from 1, latitude, longitude[, similarity, gps_score].",
    ),
]
AnswersFile = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        metavar="ANSWERS.csv",
        help="Answers of a multimodal model: id, model, latitude, longitude, location. 0,0 counts as no answer.",
    ),
]
AlbumsFile = Annotated[
    Path | None,
    typer.Option(
        "--albums",
        metavar="ALBUMS.csv",
        help="Which photos are from one camera: id, album[, order (a number) or taken (ISO time)]"
        "[, latitude, longitude of photos with GPS].",
    ),
]
TruthFile = Annotated[
    Path,
    typer.Option(
        "--truth", metavar="PHOTOS.csv", help="True positions of the photos: id, latitude, longitude, author."
    ),
]


def refine(
    candidates: CandidatesFile,
    out: Annotated[Path, typer.Option("--out", metavar="PREDICTIONS.csv", help="File to write.")],
    answers: AnswersFile = None,
    albums: AlbumsFile = None,
    method: Annotated[
        RefineMethod,
        typer.Option(
            help="posterior uses candidates and answers; album also the other photos of the album; the other methods "
            "only candidates."
        ),
    ] = "posterior",
    params: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Refiner from `dualgeo fit-refiner`; default: the shipped one."),
    ] = None,
    max_risk: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.999, help="Abstain so that at most this share of answers is over 25 km off."),
    ] = None,
) -> None:
    """Combines each photo's candidates (and answers) into one position with a 50 % radius and a 90 % radius.

    Examples: dualgeo refine candidates.csv --answers lmm_answers.csv --out predictions.csv;
    dualgeo refine candidates.csv --method album --albums albums.csv --out predictions.csv
    """
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.base.targets import check_file_target
    from dualgeo_core.refine.predict import predict
    from dualgeo_core.refine.refiner import load_refiner, shipped_refiner
    from dualgeo_core.refine.statuses import legend
    from dualgeo_core.refine.tables import read_albums, read_answers, read_candidates, write_predictions
    from dualgeo_core.settings import RefinementSettings

    check_file_target(out)
    if albums is not None and method != "album":
        raise InputError(f"the method {method} does not read albums; give --method album, or leave out --albums")
    if max_risk is not None and method not in ("posterior", "album"):
        raise InputError(
            f"--max-risk needs --method posterior or album, and the method is {method}; change one of them"
        )
    refiner = shipped_refiner() if params is None else load_refiner(params)
    together = None if albums is None else read_albums(albums)
    if together is not None:
        _say_order_unread(together, refiner)
    predictions = predict(
        candidates=read_candidates(candidates),
        answers=None if answers is None else read_answers(answers),
        method=method,
        params=refiner,
        settings=RefinementSettings(max_risk=max_risk),
        albums=together,
        progress=spoken(lambda line: typer.echo(line, err=True)),
    )
    write_predictions(out, predictions)
    for line in (f"{out}: {len(predictions)} photos", *legend(predictions)):
        typer.echo(line)


def _say_order_unread(albums: "DataFrame", refiner: "Refiner") -> None:
    given = next((column for column in ("order", "taken") if column in albums), None)
    read = None if refiner.album is None else refiner.album.order_column
    if given is not None and given != read:
        typer.echo(f"The refiner was fitted without the column {given}: the albums are read without order.", err=True)


def fit_refiner(
    candidates: CandidatesFile,
    truth: TruthFile,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Refiner to write (JSON).")],
    answers: AnswersFile = None,
    albums: AlbumsFile = None,
) -> None:
    """Fits the posterior to a retriever's candidates for photos with known positions, and calibrates its radii.

    Photographers are held out for the calibration. Photos of PHOTOS.csv without candidates are ignored. With --albums
    the refiner also serves `dualgeo refine --method album`; positions in ALBUMS.csv are not read.
    Example: dualgeo fit-refiner candidates.csv --truth photos.csv --answers lmm_answers.csv --out refiner.json
    """
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.base.targets import check_file_target
    from dualgeo_core.refine.fit import fit_refiner as fit
    from dualgeo_core.refine.refiner import save_refiner
    from dualgeo_core.refine.tables import check_known, read_albums, read_answers, read_candidates, read_truth

    check_file_target(out)
    found, known = read_candidates(candidates), read_truth(truth)
    check_known(candidates, found, known=known["id"], where=str(truth))
    replies = None if answers is None else read_answers(answers)
    if answers is not None and replies is not None:
        check_known(answers, replies, known=known["id"], where=str(truth))
    refiner = fit(
        candidates=found,
        answers=replies,
        truth=known,
        albums=None if albums is None else read_albums(albums),
        progress=spoken(lambda line: typer.echo(line, err=True)),
    )
    save_refiner(out, refiner)
    facts = refiner.data
    typer.echo(
        f"{out}: fitted on {facts['queries']} photos by {facts['photographers']} photographers, "
        f"{facts['answered']} with a usable answer"
    )
    if refiner.album is not None:
        together, read = refiner.album.data, refiner.album.order_column or "no order"
        typer.echo(f"{out}: albums fitted on {together['photos']} photos of {together['albums']} albums, by {read}")


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS.csv", help="Predictions: id, latitude, longitude[, radius_*_km].")
    ],
    truth: TruthFile,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the scores here.")
    ] = None,
) -> None:
    """Scores predictions by accuracy within distances, median error and coverage of the radii, with 95 % intervals.

    Intervals resample photographers. A photo of PHOTOS.csv without a position counts as wrong.
    """
    from dualgeo_core.base.files import write_json
    from dualgeo_core.base.targets import check_file_target
    from dualgeo_core.evaluation.scores import evaluate as score
    from dualgeo_core.refine.statuses import legend
    from dualgeo_core.refine.tables import check_known, read_predictions, read_truth
    from dualgeo_core.settings import EvaluationSettings

    if json_file is not None:
        check_file_target(json_file)
    known, predicted = read_truth(truth), read_predictions(predictions)
    check_known(predictions, predicted, known=known["id"], where=str(truth))
    defaults = EvaluationSettings()
    scores = score(predictions=predicted, truth=known, bootstrap_samples=defaults.bootstrap_samples, seed=defaults.seed)
    if json_file is not None:
        write_json(json_file, scores)
    photos = f"{truth}: {scores['n']} photos by {scores['photographers']} photographers"
    for line in (photos, *legend(predicted, known["id"]), *_lines(scores)):
        typer.echo(line)


def _lines(scores: dict[str, Any]) -> list[str]:
    from dualgeo_core.evaluation.scores import FEWEST_PHOTOGRAPHERS, TOO_FEW

    shown = []
    if scores["photographers"] < FEWEST_PHOTOGRAPHERS:
        shown.append(f"95 % intervals: {TOO_FEW}")
    for name, value in scores.items():
        if name in ("n", "n_missing", "photographers") or name.endswith("_interval"):
            continue
        interval = scores.get(f"{name}_interval")
        bounds = f"  [{_number(interval[0])},{_number(interval[1])} ]" if interval else ""
        shown.append(f"{name:18}{_number(value)}{bounds}")
    return shown


def _number(value: float | None) -> str:
    return f"{value:9.2f}" if value is not None else f"{'-':>9}"
