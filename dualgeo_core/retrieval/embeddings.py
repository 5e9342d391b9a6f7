"""Retrieval vectors on disk: shards of float16 rows in the order of the photos, signed by what made them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dualgeo_core.errors import InputError
from dualgeo_core.files import atomic_folder, require_fingerprint, write_fingerprint
from dualgeo_core.progress import Progress, silent

ROWS_PER_SHARD = 65_536

Vectors = NDArray[np.float32]


def write_embeddings(
    *,
    folder: Path,
    count: int,
    embed: Callable[[NDArray[np.int64]], Vectors],
    signature: str,
    progress: Progress = silent,
) -> None:
    """Fills `folder` with `embed(rows)` of shape (rows, d) for all `count` rows, one shard in memory at a time."""
    with atomic_folder(folder) as temporary:
        for number, start in enumerate(range(0, count, ROWS_PER_SHARD)):
            rows = np.arange(start, min(start + ROWS_PER_SHARD, count))
            vectors = embed(rows)
            if not np.isfinite(vectors).all():
                raise InputError(f"embeddings of rows {rows[0]}-{rows[-1]} are not finite; the model in use is broken")
            save_file({"vectors": vectors.astype(np.float16)}, temporary / f"rows-{number:05d}.safetensors")
            progress(f"embeddings {folder.name}", int(rows[-1]) + 1, count)
        write_fingerprint(temporary, signature, rows=count)


def read_embeddings(folder: Path, signature: str) -> Iterator[Vectors]:
    """The shards in order, float32 and of unit length; raises InputError where something else made them."""
    require_fingerprint(folder, expected=signature, made_by="gallery_embeddings")
    for vectors in stored_vectors(folder):
        yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stored_vectors(folder: Path) -> Iterator[Vectors]:
    """The shards in order, float32, as they were written."""
    for path in sorted(folder.glob("rows-*.safetensors")):
        yield load_file(path)["vectors"].astype(np.float32)
