"""Writes photos of a photo set as files, with photographer and time in their EXIF and without position."""

import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from PIL.ExifTags import IFD, Base

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_folder
from dualgeo_core.photos.photo_set import Photos

UNSAFE = re.compile(r"[^\w.-]+")  # what a name of a file or folder is not made of
START_OF_IMAGE, APP1 = b"\xff\xd8", b"\xff\xe1"


def extract_photos(sets: Sequence[Photos], out: Path) -> dict[str, int]:
    """Writes every photo of `sets` to `out/AUTHOR/ID.jpg`, or to `out` without an author; returns each folder's count.

    JPEG files get the author and the time of exposure as EXIF, if they have none; their pixels stay as they are. No
    file gets a position. Raises InputError if `out` exists.
    """
    if out.exists():
        raise InputError(f"{out} exists; name a new folder")
    counts: Counter[str] = Counter()
    with atomic_folder(out) as folder:
        for photos in sets:
            known = photos.frame.set_index("id").reindex(columns=["author", "taken"])
            for shard in photos.shards():
                for photo_id, data in zip(shard.ids, shard.images, strict=True):
                    author, taken = known.loc[photo_id]
                    name = _safe(author) if isinstance(author, str) else ""
                    (folder / name).mkdir(exist_ok=True)
                    file = _unused(folder / name / _file_name(photo_id))
                    file.write_bytes(_with_exif(data, author=author, taken=taken))
                    counts[name] += 1
    return dict(counts)


def _safe(name: str) -> str:
    return UNSAFE.sub("_", name).strip(".") or "_"


def _file_name(photo_id: str) -> str:
    name = _safe(photo_id)
    return name if Path(name).suffix else f"{name}.jpg"


def _unused(path: Path) -> Path:
    """The path, with a number if another id led to the same name."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_stem(f"{path.stem}-{number}")
    return found


def _with_exif(data: bytes, *, author: Any, taken: Any) -> bytes:
    """The file with an EXIF segment at the place where EXIF has it, right after its start."""
    if not data.startswith(START_OF_IMAGE) or "exif" in Image.open(io.BytesIO(data)).info:
        return data
    exif = Image.Exif()
    if isinstance(author, str):
        exif[Base.Artist] = author
    if not pd.isna(taken):
        exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = f"{taken:%Y:%m:%d %H:%M:%S}"
        exif.get_ifd(IFD.Exif)[Base.OffsetTimeOriginal] = "+00:00"
    block = exif.tobytes()
    return START_OF_IMAGE + APP1 + (len(block) + 2).to_bytes(2, "big") + block + data[len(START_OF_IMAGE) :]
