"""Several files as one: the parts into which a large archive was split."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class JoinedParts(io.RawIOBase):
    """The bytes of all parts in their order, as one file to read. Several threads may call `read_at`."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self.parts = tuple(parts)
        self._files = [path.open("rb") for path in parts]
        sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._position = 0

    @property
    def size(self) -> int:
        return int(self.starts[-1])

    def read_at(self, start: int, size: int) -> bytes:
        """The bytes from `start` on, fewer than `size` at the end of the last part."""
        pieces = []
        while size > 0 and start < self.size:
            part = self.part_at(start)
            within = min(size, int(self.starts[part + 1]) - start)
            piece = os.pread(self._files[part].fileno(), within, start - int(self.starts[part]))
            if not piece:  # the file was cut after it was opened
                break
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
        return b"".join(pieces)

    def part_at(self, position: int) -> int:
        """The number of the part that holds the byte at `position`."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        return self._position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        data = self.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
