"""Ingests a corpus of hostile files: each is placed or refused with its reason, and a rerun changes nothing."""

import csv
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_files import ANY, LATITUDE, LONGITUDE, PLACED, make_corpus, photo

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.existing import open_existing
from dualgeo_core.photos.ingest import ingest_csv
from dualgeo_core.photos.photo_set import open_photos
from dualgeo_core.settings import PhotoSource

SEEDS = (0, 1)
HEADER = ["id", "latitude", "longitude", "author"]


def dualgeo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dualgeo_core.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ), timeout=300)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_file_of_a_hostile_folder_is_placed_or_refused_with_its_reason(tmp_path: Path, seed: int) -> None:
    expected = make_corpus(tmp_path / "raw", seed)
    out = tmp_path / "sets" / "hostile"
    arguments = ("ingest", "folder", str(tmp_path / "raw"), "--out", str(out), "--max-quarantine-share", "1")
    done = dualgeo(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "1 .tif (first: other/scan.tif), 1 .txt (first: other/notes.txt)" in done.stdout

    frame = open_photos(PhotoSource(photo_set="hostile"), out.parent).frame.set_index("id")
    refused = dict(open_existing(out).quarantine)
    assert set(frame.index) | refused.keys() == expected.keys()
    assert not set(frame.index) & refused.keys()
    wrong = {
        name: (outcome, refused.get(name, PLACED))
        for name, outcome in expected.items()
        if outcome != ANY and not refused.get(name, PLACED).startswith(outcome)
    }
    assert not wrong
    whole = frame.loc[[name for name, outcome in expected.items() if outcome == PLACED]]
    assert whole["latitude"].to_numpy() == pytest.approx(LATITUDE)
    assert whole["longitude"].to_numpy() == pytest.approx(LONGITUDE)

    before = bytes_of(out)
    for more in ((), ("--add",)):
        assert dualgeo(*arguments, *more).returncode == 0
        assert bytes_of(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["hostile"]


def broken_table(draw: random.Random, lines: list[str]) -> bytes:
    """The table with one or two faults of the kinds that editors, exports and transfers make."""
    for _ in range(draw.randrange(1, 3)):
        row = draw.randrange(len(lines))
        line = lines[row]
        at = draw.randrange(len(line) + 1)
        lines[row] = draw.choice(
            [
                line[:at] + "," + line[at:],
                line[:at] + '"' + line[at:],
                line[:at] + "\r" + line[at:],
                line[:at] + "\n" + line[at:],
                line[:at] + "\0" + line[at:],
                line + ",",
                line.rpartition(",")[0],
                line + "\n" + line,
                line + "\n\n",
                line.replace(".", ","),
                "\ufeff" + line,
            ]
        )
    return "\n".join(lines).encode()


@pytest.mark.parametrize("seed", range(60))
def test_a_broken_table_never_moves_a_photo(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    images = tmp_path / "images"
    images.mkdir()
    places = {f"{number}.jpg": (10.25 + number, 20.5 + number) for number in range(5)}
    for name in places:
        (images / name).write_bytes(photo())
    table = tmp_path / "photos.csv"
    lines = [",".join(HEADER), *(f"{name},{place[0]},{place[1]},anna" for name, place in places.items())]
    table.write_bytes(broken_table(draw, lines))
    try:
        ingest_csv(table=table, images=[images], out=tmp_path / "set", max_quarantine_share=1)
    except InputError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        assert not (tmp_path / "set").exists()
        return
    frame = open_photos(PhotoSource(photo_set="set"), tmp_path).frame.set_index("id")
    for photo_id, latitude, longitude in frame[["latitude", "longitude"]].itertuples():
        assert (latitude, longitude) == places[photo_id]
    with (tmp_path / "set" / "quarantine.csv").open(newline="") as file:
        assert all(len(record) == 2 for record in csv.reader(file))
