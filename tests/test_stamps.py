"""A file whose bytes were checked is read again only after it has changed, and a changed byte is found."""

import itertools
import os
import time
from pathlib import Path

import pytest
from made_artifacts import artifact

from dualgeo_core.base import stamps
from dualgeo_core.base.artifacts import Record, new_artifact
from dualgeo_core.base.digests import is_intact
from dualgeo_core.base.stamps import SETTLED_S, damaged_files_since, stamps_of


class Packed:
    """A folder with two recorded files, and the names of those that a check has read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = artifact(folder)
        with new_artifact(made) as unfinished:
            for name in ("weights", "index"):
                (unfinished / name).write_bytes(name.encode())
        self.folder, self.record, self._read = folder, made.require(), list[str]()

        def noted(path: Path, digest: object) -> bool:
            self._read.append(path.name)
            return is_intact(path, digest)  # type: ignore[arg-type]

        monkeypatch.setattr(stamps, "is_intact", noted)
        later = time.time_ns() + int(2 * SETTLED_S * 1e9)  # as if the files had been written a while ago
        monkeypatch.setattr(stamps.time, "time_ns", lambda: later)

    def check(self, record: Record | None = None) -> tuple[list[str], list[str]]:
        """The names of damaged files, and of those that were read to find them."""
        self._read.clear()
        damaged = damaged_files_since(self.folder, (record or self.record).files)
        return [path.name for path in damaged], sorted(self._read)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packed:
    return Packed(tmp_path / "locator", monkeypatch)


def test_unchanged_files_are_read_once(packed: Packed) -> None:
    assert packed.check() == ([], ["index", "weights"])
    assert packed.check() == ([], [])
    (packed.folder / "index").touch()
    assert packed.check() == ([], ["index"])
    assert packed.check() == ([], [])


@pytest.mark.parametrize("keeps_time", [False, True], ids=["new time", "old time restored"])
def test_a_changed_byte_is_found_each_time(packed: Packed, keeps_time: bool) -> None:
    packed.check()
    weights = packed.folder / "weights"
    before = weights.stat()
    weights.write_bytes(b"WEIGHTS")
    if keeps_time:
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        assert packed.check() == (["weights"], ["weights"])
    weights.write_bytes(b"weights")
    assert packed.check() == ([], ["weights"])


def test_a_missing_file_is_found(packed: Packed) -> None:
    packed.check()
    (packed.folder / "index").unlink()
    assert packed.check()[0] == ["index"]


def test_a_folder_that_was_replaced_or_recorded_anew_is_read_again(packed: Packed) -> None:
    packed.check()
    copy = packed.folder.with_name("copy")
    copy.mkdir()
    for name in ("weights", "index"):
        (copy / name).write_bytes(b"another" if name == "weights" else b"index")
    packed.folder.rename(packed.folder.with_name("old"))
    copy.rename(packed.folder)
    assert packed.check() == (["weights"], ["index", "weights"])


def test_files_that_were_just_written_are_read_again(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second write at the same moment may leave the times as they are."""
    written = max((packed.folder / name).stat().st_ctime_ns for name in ("weights", "index"))
    with monkeypatch.context() as patch:
        patch.setattr(stamps.time, "time_ns", lambda: written)
        packed.check()
    assert packed.check() == ([], ["index", "weights"])
    assert packed.check() == ([], [])


def test_a_check_that_takes_long_does_not_make_a_new_file_an_old_one(
    packed: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the file's age when the check began."""
    written = max((packed.folder / name).stat().st_ctime_ns for name in ("weights", "index"))
    clock = itertools.count(written, int(2 * SETTLED_S * 1e9))
    with monkeypatch.context() as patch:
        patch.setattr(stamps.time, "time_ns", lambda: next(clock))
        packed.check()
    assert packed.check() == ([], ["index", "weights"])


def test_notes_that_cannot_be_written_or_read_cost_only_time(packed: Packed, tmp_path: Path) -> None:
    stamps_of(packed.folder).write_text("[1")
    assert packed.check() == ([], ["index", "weights"])
    stamps_of(packed.folder).unlink()
    stamps_of(packed.folder).mkdir()
    for _ in range(2):
        assert packed.check() == ([], ["index", "weights"])
