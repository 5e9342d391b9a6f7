"""Stage 2, candidates to scores: one function per artifact, in the order in which they feed each other."""

from pathlib import Path
from typing import Any

import pandas as pd

from dualgeo_core.answering.locator_folder import pack_locator
from dualgeo_core.base.files import (
    atomic_folder,
    fingerprint,
    write_fingerprint,
    write_json,
)
from dualgeo_core.base.frames import frame_signature, read_frame, write_frame
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.evaluation.scores import evaluate
from dualgeo_core.photos.decode import decode_image
from dualgeo_core.photos.photographers import split_by_photographer
from dualgeo_core.pipeline.methods import compared_methods, main_method
from dualgeo_core.pipeline.opening import open_answerer, open_refiner, open_views
from dualgeo_core.pipeline.signatures import (
    answers_signature,
    candidates_signature,
    clusters_signature,
    index_signature,
    predictions_signature,
    refiner_signature,
    scores_signature,
)
from dualgeo_core.pipeline.workspace import GALLERY, REFINER_FILE, Workspace
from dualgeo_core.refine.clusters import clusters_of
from dualgeo_core.refine.density import gallery_density
from dualgeo_core.refine.fit import FEWEST_QUERIES, fit_refiner
from dualgeo_core.refine.lmm.ask import ANSWER_COLUMNS
from dualgeo_core.refine.predict import refiner_of
from dualgeo_core.refine.refiner import save_refiner, shipped_refiner

Facts = dict[str, Any]


def make_refiner(workspace: Workspace, progress: Progress = silent) -> Facts:
    """The posterior's parameters, fitted on the candidates of gallery photographers who were held out of training.

    A profile that names a fitted refiner gets that one; a gallery with too few held-out photos, or those of a single
    photographer, gets the shipped one.
    """
    profile = workspace.profile
    gallery = open_views(workspace, GALLERY)
    if profile.refinement.params_file is not None:
        refiner, fitted_on = refiner_of(profile.refinement), profile.refinement.params_file
    else:
        rows = split_by_photographer(gallery.frame, profile.training).queries
        if len(rows) < FEWEST_QUERIES or gallery.frame["author"].iloc[rows].nunique() < 2:
            refiner, fitted_on = shipped_refiner(), f"the shipped fit: only {len(rows)} gallery photos are held out"
        else:
            refiner = fit_refiner(
                candidates=open_answerer(workspace).candidates(gallery, rows),
                answers=None,
                truth=gallery.frame.iloc[rows],
                density=gallery_density(gallery.frame),
                seed=profile.training.validation_seed,
                progress=progress,
            )
            fitted_on = f"{len(rows)} gallery photos by photographers held out of training"
    with atomic_folder(workspace.refiner) as folder:
        save_refiner(folder / REFINER_FILE, refiner)
        write_fingerprint(folder, refiner_signature(workspace), fitted_on=fitted_on)
    return {"fitted_on": fitted_on, "fingerprint": refiner.fingerprint}


def make_locator(workspace: Workspace) -> Facts:
    """All it takes to locate photos, in one folder that can be moved; only what belongs together is packed."""
    main = workspace.profile.model.main
    return pack_locator(
        workspace.locator,
        profile=workspace.profile,
        model=None if main == "encoder" else workspace.model(main),
        index=workspace.index(main),
        index_signature=index_signature(workspace, main),
        segmenter=workspace.segmenter,
        refiner=open_refiner(workspace),
        gallery=open_views(workspace, GALLERY),
    )


def make_lmm_answers(workspace: Workspace, benchmark: str, progress: Progress = silent) -> Facts:
    """What the multimodal model answers about each query, or what a file says it did; no rows while neither is set."""
    photos = workspace.photos(benchmark)
    found, counts = open_answerer(workspace).answers(
        ids=photos.frame["id"].tolist(),
        image=lambda photo_id: decode_image(photos.image(photo_id)),
        candidates=main_candidates(workspace, benchmark),
        progress=progress,
    )
    answers = pd.DataFrame(columns=list(ANSWER_COLUMNS)) if found is None else found
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
    answerer = open_answerer(workspace)
    parts = []
    for method in compared_methods(profile):
        predictions = answerer.predictions(
            candidates=candidates[candidates["representation"] == method.representation],
            answers=answers if method.answers else None,
            ids=ids,
            method=method.refinement,
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
    settings = workspace.profile.evaluation
    scores = {
        method: evaluate(
            predictions=found, truth=truth, bootstrap_samples=settings.bootstrap_samples, seed=settings.seed
        )
        for method, found in predictions_by_method(workspace, benchmark).items()
    }
    signature = scores_signature(workspace, benchmark)
    write_json(workspace.scores(benchmark), {"fingerprint": signature, "scores": scores})
    return {"scores": scores, "fingerprint": fingerprint(signature, scores)}


def predictions_by_method(workspace: Workspace, benchmark: str) -> dict[str, pd.DataFrame]:
    """The predictions of every method on a benchmark. Raises InputError if they were made from something else."""
    found = read_frame(workspace.predictions(benchmark), signature=predictions_signature(workspace, benchmark))
    return {str(method): rows.drop(columns="method") for method, rows in found.groupby("method", sort=False)}


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
    main = predictions_by_method(workspace, benchmark)[main_method(workspace.profile).name]
    path = workspace.settings.artifacts / "registered" / f"{benchmark}.parquet"
    write_frame(path, main, signature=frame_signature(workspace.predictions(benchmark)))
    return path
