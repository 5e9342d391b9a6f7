"""Stage 2, candidates to scores: one function per artifact, in the order in which they feed each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.evaluate import evaluate
from dualgeo_core.files import atomic_folder, fingerprint, require_fingerprint, write_fingerprint, write_json
from dualgeo_core.frames import frame_signature, read_frame, write_frame
from dualgeo_core.loading import choose_device, open_model, open_retriever, views_of
from dualgeo_core.methods import compared_methods, main_method
from dualgeo_core.model.embed import embed
from dualgeo_core.model.validation import split_by_photographer
from dualgeo_core.progress import Progress, silent
from dualgeo_core.refine.clusters import clusters_of
from dualgeo_core.refine.density import PhotoDensity, density_of
from dualgeo_core.refine.fit import FEWEST_QUERIES, fit_refiner
from dualgeo_core.refine.lmm.ask import ANSWER_COLUMNS, ask_photos
from dualgeo_core.refine.predict import predict, refiner_of
from dualgeo_core.refine.refiner import Refiner, load_refiner, save_refiner, shipped_refiner
from dualgeo_core.refine.tables import read_answers
from dualgeo_core.retrieval.gps_evidence import with_gps_scores
from dualgeo_core.signatures import (
    answers_signature,
    candidates_signature,
    clusters_signature,
    predictions_signature,
    refiner_signature,
    scores_signature,
)
from dualgeo_core.views.store import Views
from dualgeo_core.workspace import GALLERY, REFINER_FILE, Workspace

Facts = dict[str, Any]


def make_refiner(workspace: Workspace, progress: Progress = silent) -> Facts:
    """The posterior's parameters, fitted on the candidates of gallery photographers who were held out of training.

    A profile that names a fitted refiner gets that one; a gallery with too few held-out photos, or those of a single
    photographer, gets the shipped one.
    """
    profile = workspace.profile
    gallery = views_of(workspace, GALLERY)
    if profile.refinement.params_file is not None:
        refiner, fitted_on = refiner_of(profile.refinement), profile.refinement.params_file
    else:
        rows = split_by_photographer(gallery.frame, profile.training).queries
        if len(rows) < FEWEST_QUERIES or gallery.frame["author"].iloc[rows].nunique() < 2:
            refiner, fitted_on = shipped_refiner(), f"the shipped fit: only {len(rows)} gallery photos are held out"
        else:
            refiner = _fitted(workspace, gallery, rows, progress)
            fitted_on = f"{len(rows)} gallery photos by photographers held out of training"
    with atomic_folder(workspace.refiner) as folder:
        save_refiner(folder / REFINER_FILE, refiner)
        write_fingerprint(folder, refiner_signature(workspace), fitted_on=fitted_on)
    return {"fitted_on": fitted_on, "fingerprint": refiner.fingerprint}


def _fitted(workspace: Workspace, gallery: Views, rows: NDArray[np.int64], progress: Progress) -> Refiner:
    main = workspace.profile.model.main
    model, device = open_model(workspace, main), choose_device(workspace.profile)
    vectors = embed(model=model, views=gallery, variant=main, rows=rows, device=device)
    candidates = open_retriever(workspace, main).candidates(queries=gallery, vectors=vectors, rows=rows)
    return fit_refiner(
        candidates=with_gps_scores(candidates, model=model, queries=gallery, rows=rows, device=device),
        answers=None,
        truth=gallery.frame.iloc[rows],
        density=gallery_density(gallery.frame),
        seed=workspace.profile.training.validation_seed,
        progress=progress,
    )


def open_refiner(workspace: Workspace) -> Refiner:
    """The refiner that belongs to the present index; raises InputError where it was fitted on something else."""
    require_fingerprint(workspace.refiner, expected=refiner_signature(workspace), made_by="refiner")
    return load_refiner(workspace.refiner / REFINER_FILE)


def gallery_density(gallery: pd.DataFrame) -> PhotoDensity:
    """Where the gallery's photos were taken: the prior of photos that are searched in it."""
    return density_of(gallery["latitude"], gallery["longitude"])


def make_lmm_answers(workspace: Workspace, benchmark: str, progress: Progress = silent) -> Facts:
    """What the multimodal model answers about each query, or what a file says it did; no rows while neither is set."""
    settings = workspace.profile.lmm
    photos = workspace.photos(benchmark)
    ids = photos.frame["id"].tolist()
    counts: dict[str, float] = {}
    if settings.answers_file is not None:
        answers = read_answers(Path(settings.answers_file))
        answers = answers[answers["id"].isin(ids)]
    elif settings.model is not None:
        answers, counts = ask_photos(
            ids=ids,
            image=photos.image,
            candidates=main_candidates(workspace, benchmark),
            settings=settings,
            cluster_radius_km=workspace.profile.refinement.cluster_radius_km,
            cache=workspace.settings.artifacts / "lmm_replies",
            progress=progress,
        )
    else:
        answers = pd.DataFrame(columns=list(ANSWER_COLUMNS))
    signature = answers_signature(workspace, benchmark)
    write_frame(workspace.lmm_answers(benchmark), answers, signature=signature)
    return {"answers": len(answers), **counts, "fingerprint": fingerprint(signature, answers.to_csv(index=False))}


def make_clusters(workspace: Workspace, benchmark: str) -> Facts:
    """Per query the HDBSCAN clusters of its candidates: centre, radius, share of the similarity, place name."""
    candidates = main_candidates(workspace, benchmark)
    rows = []
    for photo_id, found in candidates[candidates["kind"] == "similar"].groupby("id", sort=False):
        arrays = (found[column].to_numpy() for column in ("latitude", "longitude", "similarity"))
        clusters = clusters_of(*arrays, radius_km=workspace.profile.refinement.cluster_radius_km)
        rows += [
            {
                "id": photo_id,
                "cluster": number,
                "latitude": cluster.latitude,
                "longitude": cluster.longitude,
                "radius_km": cluster.radius_km,
                "mass": cluster.mass,
                "members": len(cluster.members),
                "place": cluster.place,
            }
            for number, cluster in enumerate(clusters)
        ]
    frame = pd.DataFrame(
        rows, columns=["id", "cluster", "latitude", "longitude", "radius_km", "mass", "members", "place"]
    )
    signature = clusters_signature(workspace, benchmark)
    write_frame(workspace.clusters(benchmark), frame, signature=signature)
    return {"rows": len(frame), "queries_with_a_cluster": int(frame["id"].nunique()), "fingerprint": signature}


def make_predictions(workspace: Workspace, benchmark: str, progress: Progress = silent) -> Facts:
    """Where each query was taken, by every method that is compared; column `method` names it."""
    profile = workspace.profile
    candidates = _candidates(workspace, benchmark)
    ids = workspace.photos(benchmark).frame["id"].tolist()
    answers = read_frame(workspace.lmm_answers(benchmark), signature=answers_signature(workspace, benchmark))
    refiner = open_refiner(workspace)
    density = gallery_density(workspace.photos(GALLERY).frame)
    parts = []
    for method in compared_methods(profile):
        predictions = predict(
            candidates=candidates[candidates["representation"] == method.representation],
            answers=answers if method.answers else None,
            method=method.refinement,
            params=refiner,
            settings=profile.refinement,
            ids=ids,
            density=density,
            progress=progress,
        )
        parts.append(predictions.assign(method=method.name))
    frame = pd.concat(parts, ignore_index=True)
    signature = predictions_signature(workspace, benchmark)
    write_frame(workspace.predictions(benchmark), frame, signature=signature)
    main = frame[frame["method"] == main_method(profile).name]
    statuses = {f"status {status}": int(count) for status, count in main["status"].value_counts().items()}
    return {
        "queries": len(ids),
        "methods": len(parts),
        **statuses,
        "fingerprint": fingerprint(signature, frame.to_csv()),
    }


def make_scores(workspace: Workspace, benchmark: str) -> Facts:
    """Accuracy, median error and coverage of every method, with photographer-clustered intervals."""
    truth = workspace.photos(benchmark).frame
    predictions = read_predictions(workspace, benchmark)
    settings = workspace.profile.evaluation
    scores = {
        method: evaluate(
            predictions=found.drop(columns="method"),
            truth=truth,
            bootstrap_samples=settings.bootstrap_samples,
            seed=settings.seed,
        )
        for method, found in predictions.groupby("method", sort=False)
    }
    signature = scores_signature(workspace, benchmark)
    write_json(workspace.scores(benchmark), {"fingerprint": signature, "scores": scores})
    return {"scores": scores, "fingerprint": fingerprint(signature, scores)}


def read_predictions(workspace: Workspace, benchmark: str) -> pd.DataFrame:
    """The predictions of every method on a benchmark; raises InputError where something else made them."""
    return read_frame(workspace.predictions(benchmark), signature=predictions_signature(workspace, benchmark))


def read_clusters(workspace: Workspace, benchmark: str) -> pd.DataFrame:
    """The clusters of each query's candidates; raises InputError where they were made from something else."""
    return read_frame(workspace.clusters(benchmark), signature=clusters_signature(workspace, benchmark))


def main_candidates(workspace: Workspace, benchmark: str) -> pd.DataFrame:
    """The candidates that the answering method looks at."""
    candidates = _candidates(workspace, benchmark)
    return candidates[candidates["representation"] == workspace.profile.model.main]


def _candidates(workspace: Workspace, benchmark: str) -> pd.DataFrame:
    return read_frame(workspace.candidates(benchmark), signature=candidates_signature(workspace, benchmark))


def write_main_predictions(workspace: Workspace, benchmark: str) -> Path:
    """The answering method's predictions as a plain table of their own, to travel with a registered model."""
    predictions = read_predictions(workspace, benchmark)
    main = predictions[predictions["method"] == main_method(workspace.profile).name].drop(columns="method")
    path = workspace.settings.artifacts / "registered" / f"{benchmark}.parquet"
    write_frame(path, main, signature=frame_signature(workspace.predictions(benchmark)))
    return path
