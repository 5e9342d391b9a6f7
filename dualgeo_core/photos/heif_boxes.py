"""Whether a HEIF file is whole. libheif draws missing tiles of a grid without an error.

A HEIF file is a sequence of boxes (ISO/IEC 14496-12). Its box `iloc` lists the byte ranges of all tiles and metadata.
"""

import struct
from collections.abc import Iterator


def truncation(data: bytes) -> str | None:
    """How much of the file is missing, or None if all byte ranges that it lists lie inside it."""
    try:
        end = max(_extent_ends(data), default=0)
    except (struct.error, IndexError):
        return None  # the box is malformed, which libheif reports
    return f"{len(data)} of {end} bytes" if end > len(data) else None


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, first byte of the content, and end of each box."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        elif size == 0:  # until the end of the file
            size = end - start
        if size < content - start:
            return
        yield kind, content, min(start + size, end)
        start += size


def _extent_ends(data: bytes) -> Iterator[int]:
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            for inner, content, _ in _boxes(data, start + 4, end):
                if inner == b"iloc":
                    yield from _ends_in_iloc(data, content)


def _ends_in_iloc(data: bytes, position: int) -> Iterator[int]:
    """The end of each byte range in the file (ISO/IEC 14496-12, section 8.11.3)."""
    version, sizes = data[position], struct.unpack_from(">H", data, position + 4)[0]
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version in (1, 2) else 0
    id_size = 4 if version == 2 else 2
    position += 6

    def read(size: int) -> int:
        nonlocal position
        position += size
        if position > len(data):
            raise IndexError
        return int.from_bytes(data[position - size : position], "big")

    for _ in range(read(id_size)):
        read(id_size)
        in_file = version == 0 or read(2) & 15 == 0  # otherwise inside another box
        same_file = read(2) == 0
        base = read(base_size)
        for _ in range(read(2)):
            read(index_size)
            offset, length = read(offset_size), read(length_size)
            if in_file and same_file:
                yield base + offset + length
