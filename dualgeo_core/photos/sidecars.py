"""XMP sidecars (`photo.jpg.xmp`) with an estimated position, as exiftool, digiKam and others read them.

The position is one rdf:Description of its own, so that it can be added to an existing sidecar and removed again. The
photo's own bytes are never changed. Source: ISO 16684-1 and CIPA DC-010 (EXIF in XMP).
"""

import io
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_file
from dualgeo_core.photos.decode import UndecodableImage, image_metadata
from dualgeo_core.photos.exif import NO_POSITION, exif_position, xmp_has_position
from dualgeo_core.photos.image_files import read_photo

META, RDF, EXIF = "adobe:ns:meta/", "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://ns.adobe.com/exif/1.0/"
OURS = "https://arxiv.org/abs/2604.25533#"
MODEL = f"{{{OURS}}}model"
LARGEST_BYTES = 4 * 2**20  # sidecars have kilobytes


class SidecarOutcome(Enum):
    """What happened to a photo's sidecar; the value is the message."""

    WRITTEN = "written"
    PHOTO_HAS_POSITION = "left alone: the photo has a position"
    SIDECAR_HAS_POSITION = "left alone: its sidecar has a position"
    REMOVED = "removed"
    NOTHING_TO_REMOVE = "left alone: no position of ours"


@dataclass(frozen=True)
class EstimatedPosition:
    """What a sidecar states: degrees, the 90 % radius in km, and the fingerprint of the model that gave them."""

    latitude: float
    longitude: float
    radius_90_km: float
    model: str


def sidecar_of(photo: Path) -> Path:
    """The path of a photo's sidecar."""
    return photo.with_name(f"{photo.name}.xmp")


def write_sidecar(photo: Path, position: EstimatedPosition, *, dry_run: bool = False) -> SidecarOutcome:
    """Writes the position next to the photo, unless the photo or one of its sidecars has a position.

    An existing sidecar keeps its other content. With `dry_run` nothing is written. Raises InputError if a sidecar is
    not XMP.
    """
    if _photo_has_position(photo):
        return SidecarOutcome.PHOTO_HAS_POSITION
    if any(xmp_has_position(_read_text(path)) for path in (sidecar_of(photo), photo.with_suffix(".xmp"))):
        return SidecarOutcome.SIDECAR_HAS_POSITION
    root, rdf = _tree(sidecar_of(photo))
    rdf.append(_description(position))
    if not dry_run:
        _write(sidecar_of(photo), root)
    return SidecarOutcome.WRITTEN


def remove_sidecar(photo: Path, *, dry_run: bool = False) -> SidecarOutcome:
    """Removes what `write_sidecar` wrote for the photo; deletes a sidecar with no other content."""
    path = sidecar_of(photo)
    if not path.is_file():
        return SidecarOutcome.NOTHING_TO_REMOVE
    root, rdf = _tree(path)
    ours = [part for part in rdf if MODEL in part.attrib]
    if not ours:
        return SidecarOutcome.NOTHING_TO_REMOVE
    for part in ours:
        rdf.remove(part)
    if dry_run:
        return SidecarOutcome.REMOVED
    if len(rdf):
        _write(path, root)
    else:
        path.unlink()
    return SidecarOutcome.REMOVED


def _photo_has_position(photo: Path) -> bool:
    """Whether EXIF or XMP of the photo hold a position, usable or not."""
    try:
        position = exif_position(image_metadata(read_photo(photo)))
    except (OSError, UndecodableImage) as error:
        raise InputError(f"{photo} is not a readable photo ({error}); leave it out") from None
    return position.fault != NO_POSITION


def _description(position: EstimatedPosition) -> ElementTree.Element:
    return ElementTree.Element(
        f"{{{RDF}}}Description",
        {
            f"{{{RDF}}}about": "",
            f"{{{EXIF}}}GPSVersionID": "2.3.0.0",
            f"{{{EXIF}}}GPSLatitude": _degrees(position.latitude, "NS"),
            f"{{{EXIF}}}GPSLongitude": _degrees(position.longitude, "EW"),
            f"{{{EXIF}}}GPSHPositioningError": f"{max(round(1000 * position.radius_90_km), 1)}/1",
            f"{{{EXIF}}}GPSProcessingMethod": "DualGeo, estimated from the picture",
            MODEL: position.model,
        },
    )


def _degrees(value: float, hemispheres: str) -> str:
    """Degrees and decimal minutes, such as 48,51.5040N."""
    ten_thousandths = round(abs(value) * 600_000)
    degrees, rest = divmod(ten_thousandths, 600_000)
    return f"{degrees},{rest / 10_000:.4f}{hemispheres[value < 0]}"


def _tree(path: Path) -> tuple[ElementTree.Element, ElementTree.Element]:
    """The sidecar's document and its rdf:RDF; new ones if there is none. Raises InputError if it is not XMP."""
    for prefix, namespace in (("x", META), ("rdf", RDF), ("exif", EXIF), ("dualgeo", OURS)):
        ElementTree.register_namespace(prefix, namespace)
    if not path.is_file():
        root = ElementTree.Element(f"{{{META}}}xmpmeta")
        return root, ElementTree.SubElement(root, f"{{{RDF}}}RDF")
    try:
        text = _read_text(path)
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise InputError(f"{path} declares entities; XMP has none, so move this file away")
        for _, (prefix, namespace) in ElementTree.iterparse(io.StringIO(text), events=("start-ns",)):
            _keep_prefix(prefix, namespace)
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is not XMP ({error}); move it away") from None
    rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
    if rdf is None:
        raise InputError(f"{path} is not XMP (it has no rdf:RDF); move it away")
    return root, rdf


def _keep_prefix(prefix: str, namespace: str) -> None:
    """Other programs' prefixes stay as they wrote them; ElementTree forbids only those that it makes up itself."""
    if prefix and not prefix.startswith("ns"):
        ElementTree.register_namespace(prefix, namespace)


def _read_text(path: Path) -> str:
    if not path.is_file():
        return ""
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(f"{path} has more than {LARGEST_BYTES} bytes; XMP is smaller, so move this file away")
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _write(path: Path, root: ElementTree.Element) -> None:
    with atomic_file(path) as temporary:
        ElementTree.indent(root)
        temporary.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
