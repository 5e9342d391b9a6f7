"""FAISS indexes of any kind: files, memory-mapped or in memory, learning, and search effort."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import reading

try:
    faiss: Any = importlib.import_module("faiss")
except ImportError:
    raise InputError("faiss is not installed; run pip install 'dualgeo[cpu]' or pip install 'dualgeo[gpu]'") from None

INDEX_FILE = "index.faiss"


def read_index(folder: Path) -> Any:
    """The index in a folder, in memory, so that it can grow. Raises InputError if it cannot be read."""
    return _read(folder, flags=0)


def map_index(folder: Path) -> Any:
    """The index in a folder, memory-mapped for search: it opens at once, and processes share its memory.

    Raises InputError if it cannot be read.
    """
    return _read(folder, flags=faiss.IO_FLAG_MMAP_IFC)


def write_index(index: Any, folder: Path) -> None:
    """Writes the index. Raises InputError if the disk is full."""
    try:
        faiss.write_index(index, str(folder / INDEX_FILE))
    except RuntimeError as error:
        raise InputError(f"{folder} cannot be written ({faiss_message(error)}); free space on its disk") from None


def faiss_message(error: RuntimeError) -> str:
    """FAISS's message without the location in its source code."""
    return str(error).rpartition("Error: ")[2].strip()


def learn(index: Any, vectors_nd: NDArray[np.float32], *, device: str) -> None:
    """Trains the index; with a `device` cuda, an IVF index finds the centres of its lists there if FAISS can use it."""
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is None or device != "cuda" or not gpus():
        index.train(vectors_nd)
        return
    comparing = on_gpu(faiss.IndexFlat(ivf.d, ivf.metric_type))
    ivf.clustering_index = comparing
    try:
        index.train(vectors_nd)
    finally:
        ivf.clustering_index = None


def gpus() -> int:
    """The number of GPUs that FAISS can use."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def on_gpu(index: Any) -> Any:
    """A copy of the index on all GPUs."""
    return faiss.index_cpu_to_all_gpus(index)


def efforts(index: Any) -> list[int]:
    """Efforts to try, from the least on: IVF lists, or HNSW candidates; one for an index without such a choice."""
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        return sorted({*(2**power for power in range(1, ivf.nlist.bit_length())), ivf.nlist})
    return [2**power for power in range(6, 13)] if _hnsw(index) is not None else [1]


def set_effort(index: Any, effort: int) -> None:
    """Sets the search effort: IVF lists, with enough candidates in the graph that finds them, or HNSW candidates."""
    space, ivf = faiss.ParameterSpace(), faiss.try_extract_index_ivf(index)
    if ivf is None:
        hnsw = _hnsw(index)
        if hnsw is not None:
            hnsw.efSearch = effort
        return
    space.set_index_parameter(index, "nprobe", min(effort, ivf.nlist))
    if isinstance(faiss.downcast_index(ivf.quantizer), faiss.IndexHNSW):
        space.set_index_parameter(index, "quantizer_efSearch", 2 * effort)


def _hnsw(index: Any) -> Any:
    """The graph of an HNSW index, also behind a transform; None for other indexes."""
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    return inner.hnsw if isinstance(inner, faiss.IndexHNSW) else None


def _read(folder: Path, *, flags: int) -> Any:
    with reading(folder / INDEX_FILE, remedy="run the step gallery_index again"):
        return faiss.read_index(str(folder / INDEX_FILE), flags)
