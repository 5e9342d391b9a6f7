"""What each artifact of a workspace would be signed with if it were made now. One signed otherwise is stale.

A signature covers what an artifact is made from. It is computed from records and settings alone; no data is opened.
"""

from pathlib import Path

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import file_digest, fingerprint
from dualgeo_core.model.fusion import model_fingerprint
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.settings import Representation
from dualgeo_core.views.store import ViewsRecord


def views_record(workspace: Workspace, photos_name: str) -> ViewsRecord:
    """What the records of a set's views say.

    Raises InputError if the views are unfinished, or were made from other photos or with other settings.
    """
    profile = workspace.profile
    features, masks = workspace.features(photos_name), workspace.masks(photos_name)
    record = ViewsRecord.read(
        photos=workspace.photos(photos_name),
        features_folder=features,
        masks_folder=masks,
        label_grid=profile.model.label_grid,
    )
    for folder, found, settings in (
        (features, record.features, profile.encoder),
        (masks, record.masks, profile.segmenter),
    ):
        if found.get("settings") != settings.fingerprint:
            step = folder.parent.name
            raise InputError(f"{folder} was made with other settings than the profile's: run the step {step} again")
    return record


def embeddings_recipe(workspace: Workspace, representation: Representation) -> str:
    """What turns views into embeddings: the representation, and its model as it is now."""
    trained = None if representation == "encoder" else model_fingerprint(workspace.model(representation))
    return fingerprint("embeddings", representation, trained)


def embeddings_signature(workspace: Workspace, representation: Representation) -> str:
    """Of the gallery's embeddings: what makes them, and the views they are made from."""
    return fingerprint(embeddings_recipe(workspace, representation), views_record(workspace, GALLERY).fingerprint)


def index_signature(workspace: Workspace, representation: Representation) -> str:
    """Of the index: the embeddings, and the FAISS string."""
    embeddings = embeddings_signature(workspace, representation)
    return fingerprint("index", embeddings, workspace.profile.retrieval.index)


def candidates_signature(workspace: Workspace, benchmark: str) -> str:
    """Of candidates: the indexes, the queries, how they are searched."""
    profile = workspace.profile
    indexes = [index_signature(workspace, representation) for representation in profile.model.variants]
    # The main representation's candidates are also kept with leakage.
    searched = [*zip(profile.model.variants, indexes, strict=True), profile.model.main]
    queries = views_record(workspace, benchmark).fingerprint
    return fingerprint("candidates", searched, queries, profile.retrieval.model_dump(mode="json"))


def clusters_signature(workspace: Workspace, benchmark: str) -> str:
    """Of clusters: the candidates, and how near is near."""
    radius_km = workspace.profile.refinement.cluster_radius_km
    return fingerprint("clusters", candidates_signature(workspace, benchmark), radius_km)


def refiner_signature(workspace: Workspace) -> str:
    """Of the refiner: the main index, how it is searched, which photographers were held out, or the file it is from."""
    profile = workspace.profile
    split = {"share": profile.training.validation_share, "seed": profile.training.validation_seed}
    given = _digest(profile.refinement.params_file)
    index = index_signature(workspace, profile.model.main)
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


def _digest(path: str | None) -> str | None:
    return None if path is None or not Path(path).is_file() else file_digest(Path(path))
