"""Search in a large gallery: the index that `auto` builds against exact search, in speed, recall and memory.

    python benchmarks/search.py [--photos 1000000] [--width 768] [--curve]

Fabricates embeddings (a mixture of one centre per 50 photos), builds both indexes with the pipeline's own code and
searches them in turn with the same queries, one after the other, in batches. Memory is the size of the index that is
held; stored vectors are memory-mapped. With --curve, smaller galleries are measured first. The last line is JSON.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.base.tensors import write_tensors
from dualgeo_core.retrieval.embeddings import EmbeddingShard
from dualgeo_core.retrieval.faiss_index import INDEX_FILE
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.retrieval.index_build import build_index
from dualgeo_core.retrieval.recall import NEAREST
from dualgeo_core.settings import RetrievalSettings

SHARD_PHOTOS, PHOTOS_PER_CENTRE, QUERIES, ROUNDS = 50_000, 50, 512, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--curve", action="store_true", help="also measure a sixteenth, an eighth, a quarter, a half")
    arguments = parser.parse_args()
    sizes = [arguments.photos // 2**power for power in ((4, 3, 2, 1, 0) if arguments.curve else (0,))]
    with tempfile.TemporaryDirectory() as folder:
        for photos in sizes:
            result = compared(Path(folder) / str(photos), photos=photos, width=arguments.width)
            print(json.dumps(result), flush=True)


def compared(folder: Path, *, photos: int, width: int) -> dict[str, Any]:
    """Both indexes over a fabricated gallery."""
    folder.mkdir()
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((photos // PHOTOS_PER_CENTRE, width), dtype=np.float32))
    shards = []
    for start in range(0, photos, SHARD_PHOTOS):
        path = folder / f"{start:010}.safetensors"
        rows = drawn(random, centres, min(SHARD_PHOTOS, photos - start))
        write_tensors(path, {"vectors": torch.from_numpy(rows.astype(np.float16))})
        shards.append(EmbeddingShard(path, sha256=path.stem))
    queries = drawn(random, centres, QUERIES)
    opened, seconds = {}, {}
    for name, memory_gb in (("exact", 1e6), ("auto", 1e-6)):
        artifact = Artifact(path=folder / name, step="search benchmark", recipe=name, inputs={})
        started = time.monotonic()
        build_index(artifact, shards=shards, settings=RetrievalSettings(index_memory_gb=memory_gb))
        seconds[name] = time.monotonic() - started
        opened[name] = GalleryIndex.open(artifact.path)
    rates: dict[str, list[float]] = {"exact": [], "auto": []}
    found = {}
    for _ in range(ROUNDS):
        for name, index in opened.items():
            started = time.monotonic()
            found[name] = index.search(queries, NEAREST).rows
            rates[name].append(QUERIES / (time.monotonic() - started))
    sizes = {name: (folder / name / INDEX_FILE).stat().st_size for name in opened}
    facts = Artifact(path=folder / "auto", step="search benchmark", recipe="auto", inputs={}).require().facts
    return {
        "photos": photos,
        "index": facts["specification"],
        "effort": facts["effort"],
        "exact_queries_per_s": round(max(rates["exact"]), 1),
        "auto_queries_per_s": round(max(rates["auto"]), 1),
        "ratio": round(max(rates["auto"]) / max(rates["exact"]), 1),
        "recall_at_20": round(recall(found["auto"], found["exact"]), 4),
        "memory_ratio": round(sizes["auto"] / sizes["exact"], 4),
        "build_s": round(seconds["auto"]),
    }


def drawn(random: np.random.Generator, centres: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Unit vectors around random centres, with as much noise as signal."""
    chosen = centres[random.integers(len(centres), size=count)]
    noise = random.standard_normal(chosen.shape, dtype=np.float32) / np.sqrt(chosen.shape[1])
    return unit(chosen + noise)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def recall(found: NDArray[np.int64], nearest: NDArray[np.int64]) -> float:
    """The share of the nearest rows that were found."""
    return float(np.mean([np.isin(exact, rows).mean() for exact, rows in zip(nearest, found, strict=True)]))


if __name__ == "__main__":
    main()
