"""Small pictures of photos, for maps and pages."""

import io
from collections.abc import Sequence

from PIL import Image

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.decode import UndecodableImage, decode_image
from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.settings import AnsweringSettings, Settings

SIDE = 96


def thumbnail_jpeg(image: Image.Image, side: int = SIDE) -> bytes:
    """An upright RGB photo as a JPEG of at most `side` x `side` pixels, without metadata."""
    small = image.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def gallery_photos(settings: AnsweringSettings) -> Photos | None:
    """The photos of the profile's gallery; None if it has none, or its photo set is not on this machine."""
    if not isinstance(settings, Settings):
        return None
    try:
        return open_photos(settings.profile.photos.gallery, data=settings.data)
    except InputError:
        return None


def gallery_thumbnails(photos: Photos, ids: Sequence[str]) -> dict[str, bytes]:
    """The thumbnails of these photos of a set by id; ids that the set lacks are left out."""
    rows = photos.frame.reset_index().set_index("id")["index"].reindex(list(dict.fromkeys(ids))).dropna()
    images = photos.take(rows.to_numpy("int64")) if len(rows) else []
    return {str(photo_id): _thumbnail(data) for photo_id, data in zip(rows.index, images, strict=True)}


def _thumbnail(data: bytes) -> bytes:
    try:
        return thumbnail_jpeg(decode_image(data))
    except UndecodableImage:  # the set was damaged after its ingest; `dualgeo verify` says so
        return thumbnail_jpeg(Image.new("RGB", (SIDE, SIDE), "grey"))
