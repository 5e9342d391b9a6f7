"""Which ids a photo may have. An id is one printable line, so that every table can hold it."""

import re

MAX_LENGTH = 4096  # the longest path of Linux
SHOWN_LENGTH = 200
# Control characters, line separators, and bytes of a file name that are not UTF-8 (Python's surrogate escapes).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def id_fault(photo_id: str) -> str | None:
    """The reason why an id is unusable, or None if it is usable."""
    if len(photo_id) > MAX_LENGTH:
        return f"unusable id ({len(photo_id)} characters)"
    if not (found := _UNPRINTABLE.search(photo_id)):
        return None
    return f"unusable id ({'not UTF-8' if found[0] >= chr(0xD800) else 'control character'})"


def shown_id(photo_id: str) -> str:
    """The id as one printable line of limited length. Usable ids of that length are returned unchanged."""
    if id_fault(photo_id) is None:
        return photo_id
    cut = f"{photo_id[:SHOWN_LENGTH]}…" if len(photo_id) > SHOWN_LENGTH else photo_id
    return _UNPRINTABLE.sub(lambda found: _escaped(found[0]), cut)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"
