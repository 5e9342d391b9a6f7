"""Opens the locator of any profile: that of its gallery, or that of places."""

from collections.abc import Callable
from pathlib import Path

from dualgeo_core.answering.base_locator import BaseLocator
from dualgeo_core.answering.locator_folder import read_locator_folder
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.settings import PlacesSettings, Settings


def locator_opener(
    settings: Settings | PlacesSettings,
    *,
    folder: Path | None = None,
    lmm_model: str | None = None,
    max_risk: float | None = None,
    even_unlike: bool = False,
    progress: Progress = silent,
) -> Callable[[], BaseLocator]:
    """A function that loads the models. `folder` replaces the locator in service.

    Raises InputError at once, before anything slow, if something that the locator needs is missing or has changed.
    """
    if isinstance(settings, PlacesSettings):
        if folder is not None:
            raise InputError(
                f"profile {settings.profile.name} has no locator folder; leave out --locator, or name a profile with a "
                "gallery"
            )
        from dualgeo_core.answering.place_locator import PlaceLocator, require_weights

        require_weights()
        return lambda: PlaceLocator(settings, lmm_model=lmm_model, max_risk=max_risk, progress=progress)
    from dualgeo_core.answering.locator import Locator

    folder = folder or settings.locator_in_service
    packed = read_locator_folder(folder, only_changed=True)
    return lambda: Locator(
        packed, lmm_model=lmm_model, max_risk=max_risk, even_unlike=even_unlike, replies=settings.lmm_replies
    )
