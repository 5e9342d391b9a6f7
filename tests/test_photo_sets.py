"""Photo sets on disk: a flipped bit changes no position and no photo unnoticed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_photos import COUNT, make_photos

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos import photo_set
from dualgeo_core.photos.existing import ids_of
from dualgeo_core.photos.photo_set import Photos, open_photos

READERS: dict[str, Callable[[Photos], object]] = {
    "positions": lambda photos: photos.frame,
    "photos by row": lambda photos: photos.take(np.arange(len(photos))),
    "a photo by id": lambda photos: photos.image("p003"),
    "ids": lambda photos: ids_of(photos.folder, ["photos-00000.parquet"]),
}


def data_pages(path: Path) -> range:
    """The bytes of the file that hold values, between its first magic number and its footer."""
    footer = int.from_bytes(path.read_bytes()[-8:-4], "little")
    return range(4, path.stat().st_size - 8 - footer)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_flipped_bit_is_an_error_or_changes_nothing(tmp_path: Path, read: Callable[[Photos], object]) -> None:
    made = make_photos(tmp_path)
    whole, shard = read(made), sorted(made.folder.glob("*.parquet"))[0]
    content, refused = shard.read_bytes(), 0
    for place in data_pages(shard)[:: max(1, len(data_pages(shard)) // 150)]:
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        shard.write_bytes(damaged)
        try:
            found = read(open_photos(made.source, data=tmp_path))
        except InputError as error:
            refused += str(made.folder) in str(error)
            continue
        if isinstance(whole, pd.DataFrame):
            assert isinstance(found, pd.DataFrame)
            pd.testing.assert_frame_equal(found, whole)
        else:
            assert found == whole
    assert refused


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_cut_shard_is_named(tmp_path: Path, read: Callable[[Photos], object]) -> None:
    made = make_photos(tmp_path)
    shard = sorted(made.folder.glob("*.parquet"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cannot be read .* restore the photo set, or ingest it again"):
        read(open_photos(made.source, data=tmp_path))


def test_an_unchanged_set_is_read_once_and_a_changed_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, read = make_photos(tmp_path), []

    def counted(path: Path, **options: Any) -> pd.DataFrame:
        read.append(path)
        return original(path, **options)

    original = photo_set.read_parquet
    monkeypatch.setattr(photo_set, "read_parquet", counted)
    frame = open_photos(made.source, data=tmp_path).frame
    once = len(read)
    assert once
    assert open_photos(made.source, data=tmp_path).frame is frame
    assert len(read) == once
    make_photos(tmp_path, numbers=range(COUNT, COUNT + 2), add=True)
    assert len(open_photos(made.source, data=tmp_path).frame) == COUNT + 2
