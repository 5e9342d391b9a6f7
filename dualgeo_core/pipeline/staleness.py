"""Which artifacts of a profile are missing, or made from other inputs than there are now."""

from collections.abc import Callable, Iterator
from functools import partial

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.base.errors import InputError
from dualgeo_core.pipeline.artifacts import Artifacts
from dualgeo_core.pipeline.workspace import GALLERY, Workspace


def stale_artifacts(workspace: Workspace) -> list[str]:
    """The names of artifacts that the next run makes, in pipeline order. Reads records, not contents."""
    artifacts = Artifacts(workspace)
    return [name for name, open_artifact in _all(artifacts, workspace) if not is_current(open_artifact)]


def is_current(open_artifact: Callable[[], Artifact]) -> bool:
    """Whether the artifact is current; it is not if one of its inputs is missing or stale."""
    try:
        return open_artifact().is_current()
    except InputError:  # Artifacts describes an artifact by inputs that have to be there
        return False


def _all(artifacts: Artifacts, workspace: Workspace) -> Iterator[tuple[str, Callable[[], Artifact]]]:
    benchmarks, variants = workspace.profile.photos.benchmarks, workspace.profile.model.variants
    yield "segmenter", artifacts.segmenter
    for name in (GALLERY, *benchmarks):
        yield f"features of {name}", partial(artifacts.features, name)
        yield f"masks of {name}", partial(artifacts.masks, name)
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
