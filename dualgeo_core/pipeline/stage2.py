"""Stage 2, from candidates to scores: one function per artifact, in pipeline order."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dualgeo_core.answering.answerer import Answerer
from dualgeo_core.answering.locator_folder import pack_locator, read_locator_folder
from dualgeo_core.base.artifacts import Artifact, new_artifact
from dualgeo_core.base.files import read_json, write_json
from dualgeo_core.base.frames import read_table, write_table
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.evaluation.scores import evaluate
from dualgeo_core.photos.decode import decode_image
from dualgeo_core.photos.photographers import split_by_photographer
from dualgeo_core.pipeline.artifacts import Artifacts, facts_of
from dualgeo_core.pipeline.methods import compared_methods, main_method
from dualgeo_core.pipeline.opening import open_answerer, open_refiner, open_relit_views, open_views
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.refine.album.albums import albums_by_author
from dualgeo_core.refine.album.fit import enough_albums
from dualgeo_core.refine.clusters import clusters_of
from dualgeo_core.refine.density import gallery_density
from dualgeo_core.refine.fit import FEWEST_QUERIES, fit_refiner
from dualgeo_core.refine.lmm.answers import ANSWER_COLUMNS
from dualgeo_core.refine.predict import refiner_of
from dualgeo_core.refine.refiner import REFINER_FILE, Refiner, save_refiner, shipped_refiner
from dualgeo_core.views.store import Views

SCORES_FILE = "scores.json"
Metadata = dict[str, Any]


def make_refiner(workspace: Workspace, progress: Progress = silent) -> Metadata:
    """Writes the posterior's parameters, fitted on gallery photographers held out of training.

    If the profile sets `refinement.params_file`, that refiner is used instead. If there are too few held-out photos, or
    they are by a single photographer, the shipped refiner is used. A refiner without an album part gets the shipped
    part.
    """
    artifact = Artifacts(workspace).refiner()
    if not artifact.is_current():
        refiner, fitted_on = _fitted(workspace, progress)
        doubts = refiner.doubts(least_likeness=workspace.profile.refinement.least_likeness)
        facts = {"fitted_on": fitted_on, "doubts": "; ".join(doubts) or "none"}
        with new_artifact(artifact, facts) as folder:
            save_refiner(folder / REFINER_FILE, replace(refiner, album=refiner.album or shipped_refiner().album))
    return facts_of(artifact)


def _fitted(workspace: Workspace, progress: Progress) -> tuple[Refiner, str]:
    """The refiner, and what it was fitted on."""
    profile = workspace.profile
    if profile.refinement.params_file is not None:
        return refiner_of(profile.refinement), profile.refinement.params_file
    gallery = open_views(workspace, GALLERY, intact=True)
    rows = split_by_photographer(gallery.frame, profile.training).queries
    held_out = gallery.frame.iloc[rows]
    albums = albums_by_author(held_out)
    if len(rows) < FEWEST_QUERIES or gallery.frame["author"].iloc[rows].nunique() < 2:
        return shipped_refiner(), f"the shipped refiner, because only {len(rows)} gallery photos are held out"
    lights = (gallery, *open_relit_views(workspace, gallery, intact=True))
    candidates, truth = in_every_light(open_answerer(workspace), lights, rows)
    refiner = fit_refiner(
        candidates=candidates,
        answers=None,
        truth=truth,
        albums=albums if enough_albums(albums) else None,
        density=gallery_density(gallery.frame),
        seed=profile.training.validation_seed,
        progress=progress,
    )
    light = "" if len(lights) == 1 else f", as they are and relit {len(lights) - 1} times"
    return refiner, f"{len(rows)} gallery photos by photographers held out of training{light}"


def in_every_light(
    answerer: Answerer, lights: Sequence[Views], rows: NDArray[np.int64]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Candidates and true places of photos `rows` in each of `lights`. Those of the first light keep their ids.

    The column `copy_of` of the others names the photo in the first light.
    """
    candidates: list[pd.DataFrame] = []
    truth: list[pd.DataFrame] = []
    for number, views in enumerate(lights):
        suffix = f" relit {number}" if number else ""
        photos = views.frame.iloc[rows]
        for parts, frame in ((candidates, answerer.candidates(views, rows)), (truth, photos)):
            parts.append(frame.assign(id=frame["id"] + suffix))
        truth[-1]["copy_of"] = photos["id"] if number else None
    return pd.concat(candidates, ignore_index=True), pd.concat(truth, ignore_index=True)


def make_locator(workspace: Workspace) -> Metadata:
    """Writes the locator folder of the main representation. Raises InputError if an input is stale or damaged."""
    artifact = Artifacts(workspace).locator()
    if not artifact.is_current():
        _pack(artifact, workspace)
    packed = read_locator_folder(artifact.path)
    return {
        "gallery_photos": len(packed.gallery.frame),
        "megabytes": round(sum(path.stat().st_size for path in artifact.path.rglob("*")) / 1e6, 1),
        "fingerprint": packed.fingerprint,
    }


def _pack(artifact: Artifact, workspace: Workspace) -> None:
    artifacts, main = Artifacts(workspace), workspace.profile.model.main
    index, segmenter = artifacts.index(main), artifacts.segmenter()
    model = None if main == "encoder" else artifacts.model(main)
    for part in filter(None, (index, segmenter, model)):
        part.require_intact()
    pack_locator(
        artifact,
        profile=workspace.profile,
        model=model.path if model else None,
        index=index.path,
        segmenter=segmenter.path,
        refiner=open_refiner(workspace),
        gallery=open_views(workspace, GALLERY, intact=True),
    )


def make_lmm_answers(workspace: Workspace, benchmark: str, progress: Progress = silent) -> Metadata:
    """Writes the LMM's answer for each query, requested or replayed. The table is empty if the profile has no LMM."""
    artifact, photos = Artifacts(workspace).lmm_answers(benchmark), workspace.photos(benchmark)
    found, counts = open_answerer(workspace).answers(
        ids=photos.frame["id"].tolist(),
        image=lambda photo_id: decode_image(photos.image(photo_id)),
        candidates=main_candidates(workspace, benchmark),
        progress=progress,
    )
    answers = pd.DataFrame(columns=list(ANSWER_COLUMNS)) if found is None else found
    write_table(artifact, answers)
    return {"answers": len(answers), **counts, "fingerprint": artifact.require().content}


def make_clusters(workspace: Workspace, benchmark: str) -> Metadata:
    """Writes the HDBSCAN clusters of each query's candidates: centre, radius (km), similarity share, place name."""
    artifact = Artifacts(workspace).clusters(benchmark)
    if not artifact.is_current():
        frame = _clusters(workspace, benchmark)
        write_table(artifact, frame, {"rows": len(frame), "queries_with_a_cluster": int(frame["id"].nunique())})
    return facts_of(artifact)


def _clusters(workspace: Workspace, benchmark: str) -> pd.DataFrame:
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
    columns = ["id", "cluster", "latitude", "longitude", "radius_km", "mass", "members", "place"]
    return pd.DataFrame(rows, columns=columns)


def make_predictions(workspace: Workspace, benchmark: str, progress: Progress = silent) -> Metadata:
    """Writes the predictions of all compared methods on every query; the column `method` names the method."""
    artifact = Artifacts(workspace).predictions(benchmark)
    if not artifact.is_current():
        frame = _predictions(workspace, benchmark, progress)
        main = frame[frame["method"] == main_method(workspace.profile).name]
        statuses = {f"status {status}": int(count) for status, count in main["status"].value_counts().items()}
        write_table(artifact, frame, {"queries": len(main), "methods": frame["method"].nunique(), **statuses})
    return facts_of(artifact)


def _predictions(workspace: Workspace, benchmark: str, progress: Progress) -> pd.DataFrame:
    artifacts = Artifacts(workspace)
    candidates = read_table(artifacts.candidates(benchmark))
    answers = read_table(artifacts.lmm_answers(benchmark))
    photos = workspace.photos(benchmark).frame
    ids, albums = photos["id"].tolist(), albums_by_author(photos)
    answerer = open_answerer(workspace)
    parts = []
    for method in compared_methods(workspace.profile):
        predictions = answerer.predictions(
            candidates=candidates[candidates["representation"] == method.representation],
            answers=answers if method.answers else None,
            ids=ids,
            method=method.refinement,
            albums=albums if method.refinement == "album" else None,
            progress=progress,
        )
        parts.append(predictions.assign(method=method.name))
    return pd.concat(parts, ignore_index=True)


def make_scores(workspace: Workspace, benchmark: str) -> Metadata:
    """Writes accuracy, median error and coverage of every method, with photographer-clustered intervals."""
    artifact = Artifacts(workspace).scores(benchmark)
    if not artifact.is_current():
        settings = workspace.profile.evaluation
        truth = workspace.photos(benchmark).frame
        scores = {
            method: evaluate(
                predictions=found, truth=truth, bootstrap_samples=settings.bootstrap_samples, seed=settings.seed
            )
            for method, found in predictions_by_method(workspace, benchmark).items()
        }
        with new_artifact(artifact) as folder:
            write_json(folder / SCORES_FILE, scores)
    return {"scores": read_scores(workspace, benchmark), **facts_of(artifact)}


def predictions_by_method(workspace: Workspace, benchmark: str) -> dict[str, pd.DataFrame]:
    """The predictions of every method on a benchmark. Raises InputError if they are stale or damaged."""
    found = read_table(Artifacts(workspace).predictions(benchmark))
    return {str(method): rows.drop(columns="method") for method, rows in found.groupby("method", sort=False)}


def main_predictions(workspace: Workspace, benchmark: str) -> pd.DataFrame:
    """The predictions of the main method."""
    return predictions_by_method(workspace, benchmark)[main_method(workspace.profile).name]


def read_scores(workspace: Workspace, benchmark: str) -> dict[str, dict[str, Any]]:
    """The scores of every method, in the profile's order. Raises InputError if they are stale or damaged."""
    artifact = Artifacts(workspace).scores(benchmark)
    artifact.require_intact()
    scores = read_json(artifact.path / SCORES_FILE)
    return {method.name: scores[method.name] for method in compared_methods(workspace.profile)}


def main_candidates(workspace: Workspace, benchmark: str) -> pd.DataFrame:
    """The candidates in the main representation."""
    candidates = read_table(Artifacts(workspace).candidates(benchmark))
    return candidates[candidates["representation"] == workspace.profile.model.main]
