"""Which artifacts of a profile are missing, or made from other inputs than there are now."""

from collections.abc import Callable, Iterator
from functools import partial

from dualgeo_core.base.artifacts import Artifact, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.model.recipe import first_difference, training_inputs, training_recipe
from dualgeo_core.pipeline.artifacts import Artifacts
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.settings import Representation


def stale_artifacts(workspace: Workspace) -> list[str]:
    """The names of artifacts that do not match their inputs, in pipeline order. Reads records, not contents.

    A trained model counts as it is, because a run may choose training settings, and a gallery may grow without
    training. `changes_since_training` compares it with the profile.
    """
    artifacts = Artifacts(workspace)
    return [name for name, open_artifact in _all(artifacts, workspace) if not is_current(open_artifact)]


def is_current(open_artifact: Callable[[], Artifact]) -> bool:
    """Whether the artifact is current; it is not if one of its inputs is missing or stale."""
    try:
        return open_artifact().is_current()
    except InputError:  # Artifacts describes an artifact by inputs that have to be there
        return False


def changes_since_training(workspace: Workspace) -> dict[Representation, str]:
    """For each trained model that the next run trains again: the first setting that changed, or that photos did.

    Raises InputError if an artifact is stale that models are trained from.
    """
    artifacts, copies = Artifacts(workspace), workspace.profile.relighting.copies
    views = artifacts.views(GALLERY)
    relit = [artifacts.require(artifacts.relit_views(copy)).content for copy in range(1, copies + 1)]
    changes = {}
    for variant in workspace.profile.model.variants:
        record = read_record(artifacts.model(variant).path)
        if record is None:
            continue
        wanted, stored = training_recipe(workspace.profile, variant), record.facts["recipe"]
        changed = first_difference({name: stored.get(name) for name in wanted}, wanted)
        if stored.get("code") != wanted["code"]:
            changed = "this version of DualGeo trains differently"
        if changed is None and record.inputs != training_inputs(views=views, relit=relit):
            changed = "the photos of the gallery, or their views, have changed"
        if changed is not None:
            changes[variant] = changed
    return changes


def _all(artifacts: Artifacts, workspace: Workspace) -> Iterator[tuple[str, Callable[[], Artifact]]]:
    benchmarks, variants = workspace.profile.photos.benchmarks, workspace.profile.model.variants
    yield "segmenter", artifacts.segmenter
    for name in (GALLERY, *benchmarks):
        yield f"features of {name}", partial(artifacts.features, name)
        yield f"masks of {name}", partial(artifacts.masks, name)
    for copy in range(1, workspace.profile.relighting.copies + 1):
        yield f"relit views {copy}", partial(artifacts.relit_views, copy)
    for variant in variants:
        if variant != "encoder":
            yield f"model {variant}", partial(artifacts.model, variant)
        yield f"embeddings {variant}", partial(artifacts.embeddings, variant)
        yield f"index {variant}", partial(artifacts.index, variant)
    yield "refiner", artifacts.refiner
    yield "locator", artifacts.locator
    for name in benchmarks:
        yield f"candidates of {name}", partial(artifacts.candidates, name)
        yield f"predictions of {name}", partial(artifacts.predictions, name)
        yield f"scores of {name}", partial(artifacts.scores, name)
