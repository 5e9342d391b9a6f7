"""How the tables of published photo sets are read: kept columns, authors, and files that are no photos."""

import re
from dataclasses import dataclass

# A Flickr user's id at the end of a file name, as in 1000269685_e60e9cdfb4_1125_78841376@N00.jpg.
_FLICKR_USER = re.compile(r"_(\d+@N\d\d)(\.\w+)?$")


@dataclass(frozen=True)
class TableFormat:
    """What is taken from a table besides id, latitude, longitude and author.

    `kept` are text columns that become columns of the set. `flickr_names`: the end of a photo's name may be the Flickr
    id of its author, which then precedes the table's author. Files of fewer than `least_bytes` are placeholders.
    """

    kept: tuple[str, ...] = ()
    flickr_names: bool = False
    least_bytes: int = 0

    def author(self, photo_id: str, listed: str | None) -> str | None:
        """The photo's author, given the author that the table lists for it."""
        found = _FLICKR_USER.search(photo_id) if self.flickr_names else None
        return found[1] if found else listed


@dataclass(frozen=True)
class PublishedSet:
    """A published photo set: how to read its table, and its table and images in words."""

    form: TableFormat
    table: str
    images: str
    about: str


PLAIN = TableFormat()
# GeoEstimation's table of IM2GPS cuts some authors at the wrong underscore.
_FLICKR = TableFormat(flickr_names=True)
# Place names are kept. Scene labels are not, because a program guessed them from the photo. G3 leaves out images of up
# to 5,120 bytes, which Flickr delivers in place of deleted photos.
MP16 = TableFormat(kept=("city", "state", "country", "continent"), least_bytes=5121)

PUBLISHED = {
    "mp16": PublishedSet(
        form=MP16,
        table="MP16_Pro_filtered.csv or MP16_Pro_places365.csv of MP16-Pro, or mp16_places365.csv.",
        images="The parts of the tar in their order (mp-16-images??), the whole .tar, or a folder of the images.",
        about="Imports MP-16 from the files of MP16-Pro. Parts of its tar are read as one, without joining them.\n\n"
        "Keeps the names of city, state, country and continent. Images of up to 5,120 bytes are placeholders.",
    ),
    "im2gps": PublishedSet(
        form=_FLICKR,
        table="im2gps_places365.csv.",
        images="gps_query_imgs.zip, or a folder of its images.",
        about="Imports IM2GPS, 237 queries. The author is the Flickr id at the end of each photo's name.",
    ),
    "im2gps3k": PublishedSet(
        form=_FLICKR,
        table="im2gps3k_places365.csv.",
        images="im2gps3ktest.zip, or a folder of its images.",
        about="Imports IM2GPS3k, 2,997 queries. The author is the Flickr id at the end of each photo's name.\n\n"
        "A version of its table has latitude and longitude exchanged: it is refused without --swapped.",
    ),
    "yfcc4k": PublishedSet(
        form=_FLICKR,
        table="yfcc4k_places365.csv.",
        images="yfcc4k.zip, or a folder of its images.",
        about="Imports YFCC4k, 4,536 queries.",
    ),
}
