"""What `dualgeo locate` prints and writes: text, JSON lines, GeoJSON, a map."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from dualgeo_core.commands.streams import say

if TYPE_CHECKING:
    from dualgeo_core.answering.answers import Answer
    from dualgeo_core.settings import AnsweringSettings

SHOWN_CANDIDATES = 5
PICTURED_CANDIDATES = 8  # as many as the map lists
MOST_PICTURES = 500  # of gallery photos in one map: 2 MB
LARGE_RADIUS_KM = 25.0  # from here on, the radius says more than the coordinates


class Output:
    """Prints each answer at once and collects them for the files. Raises InputError if a file cannot be written."""

    def __init__(self, *, as_json: bool, geojson: Path | None, map_file: Path | None) -> None:
        from dualgeo_core.base.targets import check_file_target

        for file in (geojson, map_file):
            if file is not None:
                check_file_target(file)
        self._as_json, self._geojson, self._map_file = as_json, geojson, map_file
        self._answers: list[Answer] = []
        self._albums: list[str | None] = []
        self.reader_left = False

    @property
    def is_in_vain(self) -> bool:
        """Whether nobody reads the answers, and no file was asked for."""
        return self.reader_left and not (self._geojson or self._map_file)

    def add(self, answer: "Answer", album: str | None) -> None:
        """Prints one answer; the map joins the answers of one album by a path."""
        if not say(json.dumps(answer.as_json()) if self._as_json else as_text(answer)):
            self.reader_left = True
        if self._geojson or self._map_file:
            self._answers.append(answer)
            self._albums.append(album)

    def finish(self, settings: "AnsweringSettings") -> None:
        """Writes the files. The map shows thumbnails if the profile's gallery is on this machine."""
        if self._geojson is not None:
            from dualgeo_core.answering.answers import as_geojson
            from dualgeo_core.base.files import write_json

            write_json(self._geojson, as_geojson(self._answers))
        if self._map_file is not None and self._answers:
            self._write_map(self._map_file, settings)

    def _write_map(self, file: Path, settings: "AnsweringSettings") -> None:
        from dualgeo_core.base.files import atomic_file
        from dualgeo_core.maps.page import map_page
        from dualgeo_core.maps.records import as_data_uri, map_record

        pictures = {photo_id: as_data_uri(jpeg) for photo_id, jpeg in self._gallery_pictures(settings).items()}
        records = [
            {
                **map_record(answer, candidate_thumbnail=pictures.get, thumbnail=self._own_picture(answer)),
                "album": album,
            }
            for answer, album in zip(self._answers, self._albums, strict=True)
        ]
        note = f"Located by DualGeo, profile {settings.profile.name}, model {self._answers[0].locator}."
        page = map_page(records, title=f"{len(records)} photo{'s' * (len(records) > 1)} on the map", note=note)
        with atomic_file(file) as temporary:
            temporary.write_text(page, encoding="utf-8")

    def _gallery_pictures(self, settings: "AnsweringSettings") -> dict[str, bytes]:
        """Thumbnails of the best candidates, if the gallery's photo set is on this machine."""
        from dualgeo_core.photos.thumbnails import gallery_photos, gallery_thumbnails

        gallery = gallery_photos(settings)
        if gallery is None:
            return {}
        candidates = [candidate for answer in self._answers for candidate in answer.candidates[:PICTURED_CANDIDATES]]
        shown = dict.fromkeys(candidate.gallery_id for candidate in candidates if candidate.gallery_id is not None)
        return gallery_thumbnails(gallery, list(shown)[:MOST_PICTURES])

    def _own_picture(self, answer: "Answer") -> str:
        from dualgeo_core.answering.photo_inputs import upright_rgb
        from dualgeo_core.maps.records import as_data_uri
        from dualgeo_core.photos.thumbnails import thumbnail_jpeg

        return as_data_uri(thumbnail_jpeg(upright_rgb(answer.photo, number=0)[1]))


def as_text(answer: "Answer") -> str:
    """The answer for people. A large radius stands before the coordinates, which are rounded to what it supports."""
    position = answer.rounded
    if position is None:
        return f"{answer.photo}\n  no position ({answer.status}): {answer.reason}"
    coordinates = f"{_degrees(position[0])}, {_degrees(position[1])}  {answer.place}"
    lines, doubt = [answer.photo], "" if answer.calibrated else " (not calibrated)"
    if answer.status == "anchor":
        lines.append(f"  {coordinates} (its own GPS)")
    elif answer.radius_90_km is None:
        lines += [f"  {coordinates}", "  radius: not calibrated"]
    elif answer.radius_90_km >= LARGE_RADIUS_KM:
        often = doubt or ", 9 times out of 10"
        lines.append(f"  within {kilometres(answer.radius_90_km)}{often}: {coordinates}")
        lines.append(
            f"  50 % radius {kilometres(answer.radius_50_km)}; within 25 km: {answer.confidence_25km:.0%}{doubt}"
        )
    else:
        lines.append(f"  {coordinates}")
        lines.append(
            f"  50 % radius {kilometres(answer.radius_50_km)}; 90 % radius {kilometres(answer.radius_90_km)}; "
            f"within 25 km: {answer.confidence_25km:.0%}{doubt}"
        )
    for candidate in answer.candidates[:SHOWN_CANDIDATES]:
        place = f"{candidate.latitude:.4f}, {candidate.longitude:.4f}"
        shown = f"place: {place} (" if candidate.gallery_id is None else f"similar: {candidate.gallery_id} ({place}; "
        lines.append(f"  {shown}similarity {candidate.similarity:.3f})")
    return "\n".join(lines)


def kilometres(distance_km: float | None) -> str:
    """A distance in m or km, with at most three digits."""
    assert distance_km is not None, "a posterior has both radii or neither"
    if distance_km < 1:
        return f"{1000 * distance_km:.0f} m"
    return f"{distance_km:,.0f} km" if distance_km >= 10 else f"{distance_km:.1f} km"


def _degrees(value: float) -> str:
    """A rounded coordinate without the decimals that rounding removed."""
    return f"{value:.5f}".rstrip("0").rstrip(".")
