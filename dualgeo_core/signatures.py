"""What each artifact of a workspace would be signed with if it were made now; one signed otherwise is stale.

A signature covers what an artifact is made from, never its content, so that whoever reads it can compute it alone.
"""

from pathlib import Path

from dualgeo_core.files import file_digest, fingerprint
from dualgeo_core.loading import embeddings_signature, index_signature, views_of
from dualgeo_core.settings import Representation
from dualgeo_core.workspace import GALLERY, Workspace


def candidates_signature(workspace: Workspace, benchmark: str) -> str:
    """Of candidates: the indexes, the queries, how they are searched."""
    profile = workspace.profile
    indexes = [_index(workspace, representation) for representation in profile.model.variants]
    # The main representation's candidates are also kept with leakage.
    searched = [*zip(profile.model.variants, indexes, strict=True), profile.model.main]
    queries = views_of(workspace, benchmark)
    return fingerprint("candidates", searched, queries.fingerprint, profile.retrieval.model_dump(mode="json"))


def clusters_signature(workspace: Workspace, benchmark: str) -> str:
    """Of clusters: the candidates, and how near is near."""
    radius_km = workspace.profile.refinement.cluster_radius_km
    return fingerprint("clusters", candidates_signature(workspace, benchmark), radius_km)


def refiner_signature(workspace: Workspace) -> str:
    """Of the refiner: the main index, how it is searched, which photographers were held out, or the file it is from."""
    profile = workspace.profile
    split = {"share": profile.training.validation_share, "seed": profile.training.validation_seed}
    given = _digest(profile.refinement.params_file)
    index = _index(workspace, profile.model.main)
    return fingerprint("refiner", index, profile.retrieval.model_dump(mode="json"), split, given)


def answers_signature(workspace: Workspace, benchmark: str) -> str:
    """Of the LMM's answers: the candidates it is shown, how it is asked, or the file that is replayed."""
    settings = workspace.profile.lmm
    candidates = candidates_signature(workspace, benchmark)
    return fingerprint("answers", candidates, settings.model_dump(mode="json"), _digest(settings.answers_file))


def predictions_signature(workspace: Workspace, benchmark: str) -> str:
    """Of predictions: candidates, answers, refiner, and the refinement's settings."""
    return fingerprint(
        "predictions",
        candidates_signature(workspace, benchmark),
        answers_signature(workspace, benchmark),
        refiner_signature(workspace),
        workspace.profile.refinement.model_dump(mode="json"),
    )


def scores_signature(workspace: Workspace, benchmark: str) -> str:
    """Of scores: predictions, true places, and the bootstrap."""
    settings = workspace.profile.evaluation
    bootstrap = {"samples": settings.bootstrap_samples, "seed": settings.seed}
    photos = workspace.photos(benchmark).fingerprint
    return fingerprint("scores", predictions_signature(workspace, benchmark), photos, bootstrap)


def _index(workspace: Workspace, representation: Representation) -> str:
    return index_signature(workspace, embeddings_signature(workspace, representation, views_of(workspace, GALLERY)))


def _digest(path: str | None) -> str | None:
    return None if path is None or not Path(path).is_file() else file_digest(Path(path))
