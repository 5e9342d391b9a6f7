"""Settings of retrieval, and the FAISS indexes that can be used."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings.base import Positive, Section

AUTO_INDEX = "auto"
INDEX_TRAINING_PHOTOS = 262_144  # an index is trained on at most this many gallery photos
PRODUCT_CENTROIDS = 256  # per part of a vector
# FAISS ends the process for HNSW with one link per photo. NSG and RQ indexes cannot grow or take hours to train.
_HNSW = r"HNSW(?:[2-9]|[1-9]\d+)?"
_TRANSFORM = r"(?:(?:OPQ[1-9]\d*(?:_[1-9]\d*)?|PCAR?[1-9]\d*|RR[1-9]\d*),)?"
_CODES = r"Flat|SQ(?:4|6|8|fp16|bf16)"
INDEX = re.compile(
    rf"{_TRANSFORM}(?:{_CODES}|{_HNSW}(?:[,_](?:{_CODES}|PQ[1-9]\d*))?"
    rf"|IVF(?P<lists>[1-9]\d*)(?:_{_HNSW})?,(?:{_CODES}|PQ[1-9]\d*(?:x8|x4fs)?|RaBitQ[1-9]?))"
)


def _supported_index(specification: str) -> str:
    if specification == AUTO_INDEX:
        return specification
    match = INDEX.fullmatch(specification)
    if match is None:
        raise ValueError(
            f"{specification!r} is no supported FAISS index; use auto, or one such as Flat, SQ8, HNSW32, IVF1024,SQ8, "
            "IVF4096,PQ192x4fs or IVF65536_HNSW32,SQ8"
        )
    if int(match["lists"] or 0) > INDEX_TRAINING_PHOTOS:
        raise ValueError(
            f"{specification} has more lists than the {INDEX_TRAINING_PHOTOS} photos it is trained on; use fewer lists"
        )
    return specification


class RetrievalSettings(Section):
    index: Annotated[str, AfterValidator(_supported_index)] = Field(
        AUTO_INDEX,
        description="auto: exact search while the vectors fit into index_memory_gb, otherwise a compressed index. "
        "Or a FAISS factory string, e.g. Flat, HNSW32, IVF4096,PQ192x4fs.",
    )
    index_memory_gb: float = Field(
        4.0, gt=0, description="Memory (GB) up to which `index: auto` searches exactly, at 4 bytes per dimension."
    )
    least_recall: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="Share of the 20 nearest gallery photos that a compressed index must find. "
        "The build measures it, and sets the search effort (IVF lists or HNSW candidates per search).",
    )
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
                "use fewer lists, or auto"
            )
