"""What `dualgeo locate` does with XMP sidecars: it writes those of sure answers, and removes what it wrote."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualgeo_core.base.errors import InputError
from dualgeo_core.commands.streams import tell

if TYPE_CHECKING:
    from dualgeo_core.answering.answers import Answer


def write_sure_sidecar(photo: Path, answer: "Answer", *, least_confidence: float, dry_run: bool) -> str | None:
    """Writes the sidecar of a sure answer and says so on stderr; returns why it failed, None if it did not."""
    from dualgeo_core.photos.sidecars import EstimatedPosition, write_sidecar

    position, confidence = answer.rounded, answer.confidence_25km
    if position is None or confidence is None or answer.radius_90_km is None or confidence < least_confidence:
        return None
    estimated = EstimatedPosition(*position, radius_90_km=answer.radius_90_km, model=answer.locator)
    return _change(photo, lambda: write_sidecar(photo, estimated, dry_run=dry_run), dry_run=dry_run)


def remove_written_sidecar(photo: Path, *, dry_run: bool) -> str | None:
    """Removes a sidecar that `write_sure_sidecar` wrote and says so on stderr; returns why it failed, or None."""
    from dualgeo_core.photos.sidecars import remove_sidecar

    return _change(photo, lambda: remove_sidecar(photo, dry_run=dry_run), dry_run=dry_run)


def _change(photo: Path, change: Any, *, dry_run: bool) -> str | None:
    from dualgeo_core.photos.ids import shown_id
    from dualgeo_core.photos.sidecars import sidecar_of

    try:
        outcome = change()
    except InputError as error:
        return str(error)
    would = " (dry run)" if dry_run else ""
    tell(f"{shown_id(str(sidecar_of(photo)))}: {outcome.value}{would}")
    return None
