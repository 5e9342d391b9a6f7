"""Settings of retrieval, and the FAISS indexes that can be searched without a query's own photographer."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings.base import Positive, Section

INDEX_TRAINING_PHOTOS = 262_144  # an index is trained on at most this many gallery photos
PRODUCT_CENTROIDS = 256  # per part of a vector
# These indexes accept a filter of rows at search time. FAISS offers none for NSG, RQ, refined and plain PQ indexes, and
# expects other parameters behind a transform (PCA, OPQ). A stored fast-scan index (x4fs) crashes when vectors are read.
_HNSW = r"HNSW(?:[2-9]|[1-9]\d+)?"  # one link per photo makes FAISS abort
_CODES = r"Flat|SQ(?:4|6|8|fp16|bf16)"
INDEX = re.compile(
    rf"{_CODES}|{_HNSW}(?:[,_](?:{_CODES}|PQ[1-9]\d*))?"
    rf"|IVF(?P<lists>[1-9]\d*)(?:_{_HNSW})?,(?:{_CODES}|PQ[1-9]\d*(?:x8)?)"
)


def _supported_index(specification: str) -> str:
    match = INDEX.fullmatch(specification)
    if match is None:
        raise ValueError(
            f"{specification!r} is not an index that excludes a query's own photographer; "
            "use one such as Flat, SQ8, HNSW32, IVF1024,SQ8, IVF1024,PQ64 or IVF65536_HNSW32,SQ8"
        )
    if int(match["lists"] or 0) > INDEX_TRAINING_PHOTOS:
        raise ValueError(
            f"{specification} has more lists than the {INDEX_TRAINING_PHOTOS} photos it is trained on; use fewer lists"
        )
    return specification


class RetrievalSettings(Section):
    index: Annotated[str, AfterValidator(_supported_index)] = Field(
        "Flat", description="FAISS factory string, e.g. Flat, HNSW32, IVF1024,SQ8."
    )
    probes: Positive = Field(32, description="IVF lists (nprobe) or HNSW candidates (efSearch) per search.")
    candidates: Positive = Field(20, description="Gallery photos retrieved per query.")
    hubness_neighbours: int = Field(0, ge=0, description="Neighbours for the hubness correction (CSLS); 0 = off.")
    near_duplicate_similarity: float = Field(
        0.985,
        gt=0,
        le=1,
        description="Encoder cosine from which a gallery photo is a near-duplicate of the query and is excluded.",
    )

    def require_enough_photos(self, photos: int) -> None:
        """Raises InputError if a gallery of this many photos cannot train the index."""
        match = INDEX.fullmatch(self.index)
        lists = int(match["lists"] or 0) if match else 0
        least = max(lists, PRODUCT_CENTROIDS if "PQ" in self.index else 1)
        if photos < least:
            raise InputError(
                f"retrieval.index {self.index} needs {least} gallery photos or more, and the gallery has {photos}: "
                "use fewer lists, or Flat"
            )
