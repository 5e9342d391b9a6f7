"""Stage 2, candidates to scores: one function per artifact, in the order in which they feed each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dualgeo_core.evaluate import evaluate
from dualgeo_core.files import fingerprint, write_json
from dualgeo_core.frames import frame_signature, read_frame, write_frame
from dualgeo_core.loading import candidates_signature, choose_device, open_model, open_retriever, views_of
from dualgeo_core.model.embed import embed
from dualgeo_core.model.validation import split_by_photographer
from dualgeo_core.progress import Progress, silent
from dualgeo_core.refine.clusters import clusters_of
from dualgeo_core.refine.density import PhotoDensity, density_of
from dualgeo_core.refine.fit import FEWEST_QUERIES, fit_refiner
from dualgeo_core.refine.lmm.ask import ANSWER_COLUMNS, ask_photos
from dualgeo_core.refine.predict import predict, refiner_of
from dualgeo_core.refine.refiner import load_refiner, save_refiner
from dualgeo_core.refine.tables import read_answers
from dualgeo_core.settings import Profile, RefineMethod
from dualgeo_core.stage1 import LEAKING
from dualgeo_core.workspace import GALLERY, Workspace

Facts = dict[str, Any]


@dataclass(frozen=True)
class Method:
    """One row of the comparison: which candidates, refined how, with or without the LMM's answers."""

    representation: str
    refinement: RefineMethod
    answers: bool = False

    @property
    def name(self) -> str:
        return f"{self.representation}, {self.refinement}{' and answers' if self.answers else ''}"


def main_method(profile: Profile) -> Method:
    """The method that answers."""
    return Method(profile.model.main, profile.refinement.method, answers=profile.lmm.enabled)


def compared_methods(profile: Profile) -> list[Method]:
    """Every representation by its nearest neighbour, every refinement of the main one, and leakage beside it."""
    main = profile.model.main
    methods = [Method(representation, "rank1") for representation in profile.model.variants]
    methods += [Method(main, "dbscan"), Method(main, "hdbscan"), Method(main, "posterior"), main_method(profile)]
    return [*dict.fromkeys(methods), Method(f"{main}{LEAKING}", "posterior")]


def make_refiner(workspace: Workspace, progress: Progress = silent) -> Facts:
    """The posterior's parameters, fitted on the candidates of gallery photographers who were held out of training.

    A profile that names a fitted refiner gets that one; a gallery with too few held-out photos, or those of a single
    photographer, gets the shipped one.
    """
    profile = workspace.profile
    gallery = views_of(workspace, GALLERY)
    rows = split_by_photographer(gallery.frame, profile.training).queries
    too_few = len(rows) < FEWEST_QUERIES or gallery.frame["author"].iloc[rows].nunique() < 2
    if profile.refinement.params_file is not None or too_few:
        refiner, fitted_on = refiner_of(profile.refinement), profile.refinement.params_file or "the shipped fit"
    else:
        model = open_model(workspace, profile.model.main)
        device = choose_device(profile)
        vectors = embed(model=model, views=gallery, variant=profile.model.main, rows=rows, device=device)
        retriever = open_retriever(workspace, profile.model.main)
        refiner = fit_refiner(
            candidates=retriever.candidates(queries=gallery, vectors=vectors, rows=rows),
            answers=None,
            truth=gallery.frame.iloc[rows],
            density=gallery_density(gallery.frame),
            seed=profile.training.seed,
            progress=progress,
        )
        fitted_on = f"{len(rows)} gallery photos by photographers held out of training"
    save_refiner(workspace.refiner, refiner)
    return {"fitted_on": fitted_on, "fingerprint": refiner.fingerprint}


def gallery_density(gallery: pd.DataFrame) -> PhotoDensity:
    """Where the gallery's photos were taken: the prior of photos that are searched in it."""
    return density_of(gallery["latitude"], gallery["longitude"])


def make_lmm_answers(workspace: Workspace, benchmark: str, progress: Progress = silent) -> Facts:
    """What the multimodal model answers about each query, or what a file says it did; no rows while neither is set."""
    settings = workspace.profile.lmm
    photos = workspace.photos(benchmark)
    ids = photos.frame["id"].tolist()
    signed = candidates_signature(workspace, benchmark)
    counts: dict[str, float] = {}
    if settings.answers_file is not None:
        answers = read_answers(Path(settings.answers_file))
        answers = answers[answers["id"].isin(ids)]
    elif settings.model is not None:
        candidates = read_frame(workspace.candidates(benchmark), signature=signed)
        answers, counts = ask_photos(
            ids=ids,
            image=photos.image,
            candidates=candidates[candidates["representation"] == workspace.profile.model.main],
            settings=settings,
            cluster_radius_km=workspace.profile.refinement.cluster_radius_km,
            cache=workspace.settings.artifacts / "lmm_replies",
            progress=progress,
        )
    else:
        answers = pd.DataFrame(columns=list(ANSWER_COLUMNS))
    signature = fingerprint("answers", signed, settings.model_dump(mode="json"), answers.to_csv(index=False))
    write_frame(workspace.lmm_answers(benchmark), answers, signature=signature)
    return {"answers": len(answers), **counts, "fingerprint": signature}


def make_clusters(workspace: Workspace, benchmark: str) -> Facts:
    """Per query the HDBSCAN clusters of its candidates: centre, radius, share of the similarity, place name."""
    signed = candidates_signature(workspace, benchmark)
    candidates = read_frame(workspace.candidates(benchmark), signature=signed)
    of_interest = (candidates["kind"] == "similar") & (candidates["representation"] == workspace.profile.model.main)
    rows = []
    for photo_id, found in candidates[of_interest].groupby("id", sort=False):
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
    signature = fingerprint("clusters", signed, workspace.profile.refinement.cluster_radius_km)
    write_frame(workspace.clusters(benchmark), frame, signature=signature)
    return {"rows": len(frame), "queries_with_a_cluster": int(frame["id"].nunique()), "fingerprint": signature}


def make_predictions(workspace: Workspace, benchmark: str, progress: Progress = silent) -> Facts:
    """Where each query was taken, by every method that is compared; column `method` names it."""
    profile = workspace.profile
    signed = candidates_signature(workspace, benchmark)
    candidates = read_frame(workspace.candidates(benchmark), signature=signed)
    ids = workspace.photos(benchmark).frame["id"].tolist()
    answers = read_frame(workspace.lmm_answers(benchmark))
    refiner = load_refiner(workspace.refiner)
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
    signature = fingerprint(
        "predictions",
        signed,
        frame_signature(workspace.lmm_answers(benchmark)),
        refiner.fingerprint,
        profile.refinement.model_dump(),
    )
    write_frame(workspace.predictions(benchmark), frame, signature=signature)
    main = frame[frame["method"] == main_method(profile).name]
    statuses = {f"status {status}": int(count) for status, count in main["status"].value_counts().items()}
    return {"queries": len(ids), "methods": len(parts), **statuses, "fingerprint": signature}


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
    signature = fingerprint(
        "scores",
        frame_signature(workspace.predictions(benchmark)),
        workspace.photos(benchmark).fingerprint,
        {"bootstrap_samples": settings.bootstrap_samples, "seed": settings.seed},
    )
    write_json(workspace.scores(benchmark), {"fingerprint": signature, "scores": scores})
    return {"scores": scores, "fingerprint": signature}


def read_predictions(workspace: Workspace, benchmark: str) -> pd.DataFrame:
    """The predictions of every method on a benchmark."""
    return read_frame(workspace.predictions(benchmark))


def write_main_predictions(workspace: Workspace, benchmark: str) -> Path:
    """The answering method's predictions as a plain table of their own, to travel with a registered model."""
    predictions = read_predictions(workspace, benchmark)
    main = predictions[predictions["method"] == main_method(workspace.profile).name].drop(columns="method")
    path = workspace.settings.artifacts / "registered" / f"{benchmark}.parquet"
    write_frame(path, main, signature=frame_signature(workspace.predictions(benchmark)))
    return path
