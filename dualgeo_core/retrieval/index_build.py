"""The build of the FAISS index over the gallery: extended shard by shard, with the search effort that it needs.

`Flat` searches exactly. Every other index gets the least effort that finds the required share of the nearest photos.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.artifacts import Artifact, damaged_files, new_artifact, read_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import take_over
from dualgeo_core.retrieval.embeddings import EmbeddingShard, StoredVectors, Vectors
from dualgeo_core.retrieval.faiss_index import efforts, faiss, faiss_message, learn, read_index, write_index
from dualgeo_core.retrieval.index import VECTORS, GalleryIndex
from dualgeo_core.retrieval.recall import SAMPLE_QUERIES, Search, least_effort, recall_sample
from dualgeo_core.settings import AUTO_INDEX, INDEX_TRAINING_PHOTOS, RetrievalSettings

EXACT = "Flat"
BUILD_SAMPLE = 0  # seed of the sample of queries
_LEARNING_PHOTOS_PER_LIST = 64


def build_index(
    artifact: Artifact, *, shards: Sequence[EmbeddingShard], settings: RetrievalSettings, device: str = "cpu"
) -> dict[str, int]:
    """Writes the inner-product index of `shards` to `artifact`; returns the rows `computed` now and the rows reused.

    An intact index over the first of these shards is extended by the others. It is rebuilt if it has other shards, or
    if it is trained (IVF, PQ, SQ) and the gallery is more than twice as large as when it was trained. The count of
    reused rows is `taken_over`. An approximate index learns from a sample of all shards, and its record has the search
    effort and the measured recall. In addition to the index, memory holds one shard, or the sample. Raises InputError
    if there are no shards or FAISS rejects the specification.
    """
    if not shards:
        raise InputError(
            f"the index {artifact.path} cannot be built because the gallery has no photos; import photos first"
        )
    photos = sum(map(len, shards))
    if artifact.is_current():
        return {"computed": 0, "taken_over": photos}
    specification = _specification(settings, photos=photos, width=shards[0].width)
    grown = _extendable(shards, artifact.path, specification)
    index = read_index(artifact.path) if grown else _new_index(shards[0].width, specification)
    taken_over, learns = index.ntotal, not index.is_trained
    if learns:
        _learn(index, shards, specification, device)
    for shard in shards[len(grown["shards"]) if grown else 0 :]:
        index.add(shard.vectors())
    facts = {
        "rows": index.ntotal,
        "specification": specification,
        "shards": [shard.sha256 for shard in shards],
        "learned_from": index.ntotal if learns else (grown or {}).get("learned_from"),
    }
    if specification != EXACT:
        facts |= _measured(index, StoredVectors([shard.path for shard in shards]), settings)
    with new_artifact(artifact, facts) as folder:
        write_index(index, folder)
        for number, shard in enumerate(shards if specification != EXACT else ()):
            (folder / VECTORS).mkdir(exist_ok=True)
            take_over(shard.path, folder / VECTORS / f"{number:06}.safetensors")
    return {"computed": index.ntotal - taken_over, "taken_over": taken_over}


def _specification(settings: RetrievalSettings, *, photos: int, width: int) -> str:
    """The FAISS factory string for a gallery; `auto` is exact while its vectors fit into memory.

    Otherwise about 4 sqrt(photos) lists of 4-bit product codes, about a thirtieth of the memory.
    """
    if settings.index != AUTO_INDEX:
        return settings.index
    if 4 * photos * width <= settings.index_memory_gb * 1e9:
        return EXACT
    lists = 2 ** round(math.log2(4 * math.sqrt(photos)))
    return f"IVF{lists},PQ{width // 4}x4fs" if width % 4 == 0 else f"IVF{lists},SQ8"


def _measured(index: Any, stored: StoredVectors, settings: RetrievalSettings) -> dict[str, float]:
    """The search effort that reaches the required recall, and the recall."""
    sample = recall_sample(stored, queries=SAMPLE_QUERIES, seed=BUILD_SAMPLE)
    effort, recall = least_effort(
        sample,
        search=lambda effort: _proposing(index, stored, effort),
        efforts=efforts(index),
        least_recall=settings.least_recall,
    )
    return {"effort": effort, "recall_at_20": round(recall, 4)}


def _proposing(index: Any, stored: StoredVectors, effort: int) -> Search:
    def search(vectors: Vectors, k: int) -> NDArray[np.int64]:
        return GalleryIndex(index, stored=stored, effort=effort).search(vectors, k).rows

    return search


def _extendable(shards: Sequence[EmbeddingShard], folder: Path, specification: str) -> dict[str, Any] | None:
    """The recorded facts of an intact index in `folder` if `shards` extend it; otherwise None."""
    record = read_record(folder)
    if record is None or record.facts.get("specification") != specification:
        return None
    indexed = record.facts.get("shards")
    if not isinstance(indexed, list) or [shard.sha256 for shard in shards[: len(indexed)]] != indexed:
        return None
    if damaged_files(folder, record):
        return None
    learned_from = record.facts.get("learned_from")
    outgrown = learned_from is not None and sum(map(len, shards)) > 2 * learned_from
    return None if outgrown else record.facts


def _new_index(width: int, specification: str) -> Any:
    try:
        return faiss.index_factory(width, specification, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise InputError(
            f"retrieval.index {specification} is not a FAISS factory string: {faiss_message(error)}; "
            "use one such as Flat, HNSW32 or IVF1024,SQ8"
        ) from None


def _learn(index: Any, shards: Sequence[EmbeddingShard], specification: str, device: str) -> None:
    """Trains the index on a sample of all shards, in proportion to their sizes."""
    photos = sum(map(len, shards))
    ivf = faiss.try_extract_index_ivf(index)
    wanted = max(_LEARNING_PHOTOS_PER_LIST * ivf.nlist, 65_536) if ivf is not None else 65_536
    share = min(1.0, min(wanted, INDEX_TRAINING_PHOTOS) / photos)
    random = np.random.default_rng(0)
    sample = []
    for shard in shards:
        vectors = shard.vectors()
        sample.append(vectors[np.sort(random.permutation(len(vectors))[: math.ceil(share * len(vectors))])])
    try:
        learn(index, np.concatenate(sample), device=device)
    except RuntimeError as error:
        raise InputError(
            f"retrieval.index {specification} cannot be trained on {sum(map(len, sample))} photos: "
            f"{faiss_message(error)}; use fewer clusters, or auto"
        ) from None
