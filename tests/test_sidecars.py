"""XMP sidecars: read back by exiftool, never where a position is known, and removed without a trace."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hostile_files import photo as photo_bytes
from PIL import Image

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.sidecars import (
    EstimatedPosition,
    SidecarOutcome,
    remove_sidecar,
    sidecar_of,
    write_sidecar,
)

PLACE = EstimatedPosition(latitude=-33.8568, longitude=151.2153, radius_90_km=1.25, model="abc123")
RATED = """<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"{more}/></rdf:RDF></x:xmpmeta>
<?xpacket end='w'?>
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo without a position."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_exiftool_reads_position_radius_and_model(photo: Path) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("there is no exiftool: apt install libimage-exiftool-perl")
    before = photo.read_bytes()
    assert write_sidecar(photo, PLACE) is SidecarOutcome.WRITTEN
    command = ["exiftool", "-json", "-n", "-G1", "-unknown", str(sidecar_of(photo))]
    [read] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert read["XMP-exif:GPSLatitude"] == pytest.approx(PLACE.latitude, abs=1e-6)
    assert read["XMP-exif:GPSLongitude"] == pytest.approx(PLACE.longitude, abs=1e-6)
    assert read["XMP-exif:GPSHPositioningError"] == 1250
    assert "abc123" in read.values()
    assert photo.read_bytes() == before


def test_other_content_of_a_sidecar_stays(photo: Path) -> None:
    sidecar_of(photo).write_text(RATED.format(more=""), encoding="utf-8")
    assert write_sidecar(photo, PLACE) is SidecarOutcome.WRITTEN
    assert 'xmp:Rating="4"' in sidecar_of(photo).read_text()
    assert write_sidecar(photo, PLACE) is SidecarOutcome.SIDECAR_HAS_POSITION
    assert remove_sidecar(photo) is SidecarOutcome.REMOVED
    assert 'xmp:Rating="4"' in sidecar_of(photo).read_text()
    assert "GPS" not in sidecar_of(photo).read_text()


def test_undo_removes_a_sidecar_that_has_nothing_else(photo: Path) -> None:
    write_sidecar(photo, PLACE)
    assert remove_sidecar(photo, dry_run=True) is SidecarOutcome.REMOVED
    assert sidecar_of(photo).exists()
    assert remove_sidecar(photo) is SidecarOutcome.REMOVED
    assert list(photo.parent.iterdir()) == [photo]
    assert remove_sidecar(photo) is SidecarOutcome.NOTHING_TO_REMOVE


def test_a_known_position_is_never_replaced(photo: Path) -> None:
    placed = photo.with_name("placed.jpg")
    placed.write_bytes(photo_bytes())
    assert write_sidecar(placed, PLACE) is SidecarOutcome.PHOTO_HAS_POSITION
    assert not sidecar_of(placed).exists()
    for sidecar in (sidecar_of(photo), photo.with_suffix(".xmp")):
        theirs = RATED.format(more=' xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="48,51.5N"')
        sidecar.write_text(theirs, encoding="utf-8")
        assert write_sidecar(photo, PLACE) is SidecarOutcome.SIDECAR_HAS_POSITION
        assert remove_sidecar(photo) is SidecarOutcome.NOTHING_TO_REMOVE
        assert sidecar.read_text(encoding="utf-8") == theirs
        sidecar.unlink()


def test_a_dry_run_writes_nothing(photo: Path) -> None:
    assert write_sidecar(photo, PLACE, dry_run=True) is SidecarOutcome.WRITTEN
    assert list(photo.parent.iterdir()) == [photo]


@pytest.mark.parametrize("content", ["no xml", "<a/>", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
def test_a_sidecar_that_is_not_xmp_is_refused_and_kept(photo: Path, content: str) -> None:
    sidecar_of(photo).write_text(content)
    with pytest.raises(InputError, match=r"photo\.jpg\.xmp"):
        write_sidecar(photo, PLACE)
    assert sidecar_of(photo).read_text() == content
