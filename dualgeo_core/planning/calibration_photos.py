"""Photo sets for the calibration: photos of the profile's gallery, or drawn ones if it is not on this machine."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint
from dualgeo_core.earth.ingest import ingest_synthetic
from dualgeo_core.photos.decode import check_image
from dualgeo_core.photos.photo_set import open_photos
from dualgeo_core.photos.photographers import split_by_photographer
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter
from dualgeo_core.settings import EarthSettings, PhotoSource, Settings, TrainingSettings

PHOTOS_PER_AUTHOR = 8
DRAWN_PHOTOS, DRAWN_SIDE = 64, 512  # MP-16's photos have about as many pixels
TOWNS = 40


def calibration_images(settings: Settings, folder: Path, *, photos: int) -> list[bytes]:
    """Up to `photos` encoded photos: of the gallery, spread over its shards, or of the synthetic Earth."""
    try:
        gallery = open_photos(settings.profile.photos.gallery, data=settings.data)
        rows = np.unique(np.linspace(0, len(gallery) - 1, photos).astype(np.int64))
        return gallery.take(rows)
    except InputError:
        earth = EarthSettings(image_size=DRAWN_SIDE)
        ingest_synthetic(earth=earth, part="mixed", photos=DRAWN_PHOTOS, out=folder / "drawn")
        drawn = open_photos(PhotoSource(photo_set="drawn"), data=folder)
        return [image for shard in drawn.shards() for image in shard.images]


def write_calibration_set(out: Path, images: Sequence[bytes], *, photos: int, training: TrainingSettings) -> None:
    """Writes a set of `photos` photos, which repeat `images`, at made-up places by made-up authors.

    Every photo is decoded, as an ingest does. The authors are such that the usual share of photos is held out.
    """
    frame = _frame(photos, training)

    def read(row: int) -> IngestedPhoto:
        image = images[row % len(images)]
        check_image(image)
        photo = frame.iloc[row]
        return IngestedPhoto(photo["id"], photo["latitude"], photo["longitude"], photo["author"], image)

    with ThreadPoolExecutor() as pool:
        writer = PhotoWriter(
            out=out, recipe=fingerprint("calibration", photos), entries=range(photos), read=read, pool=pool
        )
        writer.write(max_quarantine_share=0)


def _frame(photos: int, training: TrainingSettings) -> pd.DataFrame:
    """Ids, positions around a few towns, and authors of whose photos the profile's share is held out, within 20 %."""
    random = np.random.default_rng(photos)
    town = random.integers(0, TOWNS, photos)
    latitude = random.uniform(-50, 60, TOWNS)[town] + random.normal(0, 0.1, photos)
    longitude = random.uniform(-170, 170, TOWNS)[town] + random.normal(0, 0.1, photos)
    frame = pd.DataFrame({"id": [f"{row:08}" for row in range(photos)], "latitude": latitude, "longitude": longitude})
    wanted = photos * training.validation_share
    for attempt in count():
        frame["author"] = [f"{attempt}-{row // PHOTOS_PER_AUTHOR}" for row in range(photos)]
        try:
            held = photos - len(split_by_photographer(frame, training).training)
        except InputError:  # nobody is held out
            continue
        if abs(held - wanted) <= max(0.2 * wanted, PHOTOS_PER_AUTHOR):
            return frame
    raise AssertionError("a sequence without end has ended")
