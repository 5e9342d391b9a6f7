"""Retrieval vectors on disk: a file of float16 rows per photo shard, each signed by what made it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import require_fingerprint
from dualgeo_core.base.progress import Progress, silent
from dualgeo_core.base.shards import Advance, Sharded, ShardKey, build_shards, shard_signatures

Vectors = NDArray[np.float32]


def build_embeddings(
    *,
    views: Sharded,
    folder: Path,
    recipe: str,
    embed: Callable[[NDArray[np.int64]], Vectors],
    progress: Progress = silent,
) -> dict[str, int]:
    """Fills `folder` with `embed(rows)`, (rows, d), of each shard of `views`; `recipe` stands for what `embed` does.

    Only shards of which these views were not embedded yet are computed, also after a kill; returns the counts of
    `build_shards`.
    """

    def write(key: ShardKey, path: Path, advance: Advance) -> None:
        vectors = embed(np.array(key.rows))
        if not np.isfinite(vectors).all():
            raise InputError(f"embeddings of {key.name} in {folder} are not finite; the model in use is broken")
        save_file({"vectors": vectors.astype(np.float16)}, path)
        advance(len(vectors))

    return build_shards(
        folder=folder, recipe=recipe, source=views, suffix="safetensors", write=write, facts={}, progress=progress
    )


@dataclass(frozen=True)
class EmbeddingShard:
    """One file of embeddings, read when asked; `signature` stands for what made it."""

    path: Path
    signature: str

    def __len__(self) -> int:
        with safe_open(self.path, framework="np") as file:
            return int(file.get_slice("vectors").get_shape()[0])

    def vectors(self) -> Vectors:
        """(rows, d), float32 and of unit length."""
        vectors = _stored(self.path)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def read_embeddings(folder: Path, signature: str) -> list[EmbeddingShard]:
    """The shards in the order of the gallery's rows; raises InputError where something else made them."""
    require_fingerprint(folder, expected=signature, step="gallery_embeddings")
    return [
        EmbeddingShard(path=folder / f"{name}.safetensors", signature=made_by)
        for name, made_by in sorted(shard_signatures(folder).items())
    ]


def embedding_summary(folders: Mapping[str, Path]) -> pd.DataFrame:
    """Columns representation, norm, cosine_to_mean: a row per stored vector of each representation's folder."""
    parts = []
    for representation, folder in folders.items():
        for path in sorted(folder.glob("*.safetensors")):
            vectors = _stored(path)
            norm = np.linalg.norm(vectors, axis=1)
            mean = vectors.mean(axis=0)
            cosine = vectors @ mean / (norm * np.linalg.norm(mean))
            parts.append(pd.DataFrame({"representation": representation, "norm": norm, "cosine_to_mean": cosine}))
    return pd.concat(parts, ignore_index=True)


def _stored(path: Path) -> Vectors:
    return load_file(path)["vectors"].astype(np.float32)
