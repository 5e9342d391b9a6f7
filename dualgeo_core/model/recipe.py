"""What determines a trained model, and how that of a stored one differs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.base.files import fingerprint
from dualgeo_core.settings import Profile, Representation

CODE_VERSION = 3  # increase it when the same settings train a different model


def training_recipe(profile: Profile, variant: Representation) -> dict[str, Any]:
    """All settings that determine the trained model for given views."""
    return {
        "code": CODE_VERSION,
        "variant": variant,
        "model": profile.model.model_dump(mode="json", exclude={"variants", "main"}),
        "training": profile.training.model_dump(mode="json", exclude={"checkpoint_minutes", "processes", "readers"}),
    }


def model_artifact(
    folder: Path, *, profile: Profile, variant: Representation, views: str, relit: Sequence[str] = ()
) -> Artifact:
    """The artifact in `folder` of the model for these settings; `views` and `relit` are fingerprints of views."""
    return Artifact(
        path=folder,
        step="models",
        recipe=fingerprint(training_recipe(profile, variant)),
        inputs=training_inputs(views=views, relit=relit),
    )


def training_inputs(*, views: str, relit: Sequence[str]) -> dict[str, str]:
    """The views that a model is trained from, by name: the fingerprints of `views` and of their relit copies."""
    return {"views": views} | {f"relit views {copy}": content for copy, content in enumerate(relit, start=1)}


def first_difference(stored: Any, wanted: Any, name: str = "") -> str | None:
    """A message about the first value that differs, in depth-first order of keys; None if there is no difference."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key in sorted(stored.keys() | wanted.keys()):
            difference = first_difference(stored.get(key), wanted.get(key), f"{name}.{key}".lstrip("."))
            if difference:
                return difference
        return None
    return None if stored == wanted else f"{name} is {stored} in the checkpoint, {wanted} in the settings"
