"""Retrieval vectors on disk: a file of float16 rows per photo shard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.shards import Advance, Engine, Sharded, ShardKey, build_shards, in_this_process
from dualgeo_core.base.tensors import read_tensors, write_tensors

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class EmbeddingWriter:
    """Writes `embed(rows)`, (rows, d), of a shard of `views`. Raises InputError if a vector is not finite."""

    views: Sharded
    embed: Callable[[NDArray[np.int64]], Vectors]

    def __call__(self, key: ShardKey, path: Path, advance: Advance) -> None:
        vectors = self.embed(np.array(key.rows))
        if not np.isfinite(vectors).all():
            raise InputError(f"embeddings of {path.parent}/{key.name} are not finite; check the weights of the model")
        write_tensors(path, {"vectors": torch.from_numpy(vectors.astype(np.float16))})
        advance(len(vectors))


def build_embeddings(
    artifact: Artifact,
    writer: EmbeddingWriter,
    *,
    shard_recipe: str,
    engine: Engine = in_this_process,
    progress: Progress = silent,
) -> dict[str, int]:
    """Writes the vectors of each shard of the views to `artifact`; returns the counts of `build_shards`.

    `shard_recipe` identifies the computation. Shards with unchanged inputs are reused, also after a kill.
    """
    return build_shards(
        artifact,
        source=writer.views,
        shard_recipe=shard_recipe,
        suffix="safetensors",
        write=writer,
        facts={},
        engine=engine,
        progress=progress,
    )


@dataclass(frozen=True)
class EmbeddingShard:
    """One file of embeddings, read on demand; `sha256` is its digest."""

    path: Path
    sha256: str

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def width(self) -> int:
        """The number of dimensions."""
        return self._stored.shape[1]

    def vectors(self) -> Vectors:
        """Unit vectors (rows, d), float32."""
        return _unit(self._stored)

    @property
    def _stored(self) -> torch.Tensor:
        return _stored(self.path)


class StoredVectors:
    """The unit vectors in several embedding files as one matrix, memory-mapped: rows are read when they are used."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._stored = [_stored(path) for path in paths]
        self._starts = np.cumsum([0, *map(len, self._stored)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def rows(self, rows: NDArray[np.int64]) -> Vectors:
        """The unit vectors (n, d) of `rows` (n,)."""
        vectors = np.empty((len(rows), self._stored[0].shape[1]), dtype=np.float32)
        files = np.searchsorted(self._starts, rows, side="right") - 1
        for file in np.unique(files):
            here = files == file
            vectors[here] = _unit(self._stored[file][torch.from_numpy(rows[here] - self._starts[file])])
        return vectors

    def parts(self) -> Iterator[tuple[int, Vectors]]:
        """All vectors, file by file, each with the number of its first row."""
        for start, stored in zip(self._starts, self._stored, strict=False):
            yield int(start), _unit(stored)


def read_embeddings(artifact: Artifact) -> list[EmbeddingShard]:
    """The shards in the order of the gallery's rows. Raises InputError if the artifact is not current and intact."""
    record = artifact.require_intact()
    return [EmbeddingShard(artifact.path / name, sha256=digest.sha256) for name, digest in sorted(record.files.items())]


def embedding_summary(folders: Mapping[str, Path]) -> pd.DataFrame:
    """One row per stored vector of each representation's folder: representation, norm, cosine_to_mean.

    The mean is over all vectors of the representation. Memory holds one shard and the three columns.
    """
    names, norms, cosines = list(folders), [], []
    codes: list[NDArray[np.int8]] = []
    for number, name in enumerate(names):
        paths = sorted(folders[name].glob("*.safetensors"))
        total = sum(_stored(path).double().sum(dim=0).numpy() for path in paths)
        direction = (total / np.linalg.norm(total)).astype(np.float32)
        for path in paths:
            vectors = _stored(path).float().numpy()
            norms.append(np.linalg.norm(vectors, axis=1))
            cosines.append(vectors @ direction / norms[-1])
            codes.append(np.full(len(vectors), number, dtype=np.int8))
    return pd.DataFrame(
        {
            "representation": pd.Categorical.from_codes(np.concatenate(codes), categories=pd.Index(names)),
            "norm": np.concatenate(norms),
            "cosine_to_mean": np.concatenate(cosines),
        }
    )


def _unit(stored: torch.Tensor) -> Vectors:
    vectors = stored.float().numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _stored(path: Path) -> torch.Tensor:
    return read_tensors(path, remedy="run the step gallery_embeddings again")["vectors"]
