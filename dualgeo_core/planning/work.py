"""The work of each asset in units that a rate was measured for: photos, photos in training, queries, comparisons."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dualgeo_core.photos.photographers import VALIDATION_GALLERY, VALIDATION_QUERIES
from dualgeo_core.settings import AUTO_INDEX, Profile
from dualgeo_core.settings.retrieval import INDEX

RECALL_QUERIES = 1000  # with which the build of a compressed index measures its recall
TABLE_BYTES = 250  # of a photo's row: id, position, author, time, and their copies
SEARCHING = ("gallery_index", "refiner", "locator", "benchmarks")  # assets that hold the index
CPU_ASSETS = ("gallery_photos", "gallery_index", "locator", "refiner")  # assets that use no GPU
LEARNING_PASSES, LEARNING_PHOTOS_PER_LIST = 20, 64  # of k-means over the lists of a compressed index


@dataclass(frozen=True)
class Size:
    """The number of gallery photos, and of queries of all benchmarks together."""

    photos: int
    queries: int


@dataclass(frozen=True)
class Held:
    """How training divides the gallery: trained rows per epoch, and photos that validation encodes after each epoch."""

    trained: int
    queries: int
    validated: int


Units = Mapping[str, float]


def held_out(profile: Profile, photos: int) -> Held:
    """The rows of training and validation, for a gallery of this many photos by many photographers."""
    share = profile.training.validation_share
    queries = min(round(photos * share), VALIDATION_QUERIES)
    gallery = min(round(photos * (1 - share)), VALIDATION_GALLERY)
    lights = 1 + min(profile.relighting.copies, 1)
    return Held(trained=round(photos * (1 - share)), queries=queries, validated=queries * lights + gallery)


def comparisons_of_index(profile: Profile, *, photos: int, width: int) -> float:
    """The vector comparisons that building one index takes: none for exact search."""
    lists = index_lists(profile, photos=photos, width=width)
    if not lists:
        return 0.0
    learning = LEARNING_PASSES * min(photos, LEARNING_PHOTOS_PER_LIST * lists) * lists
    return learning + photos * lists + RECALL_QUERIES * photos


def index_lists(profile: Profile, *, photos: int, width: int) -> int:
    """The lists of the index that `retrieval.index` gives: 0 for exact search."""
    settings = profile.retrieval
    if settings.index != AUTO_INDEX:
        found = INDEX.fullmatch(settings.index)
        return int(found["lists"] or 0) if found else 0
    exact = 4 * photos * width <= settings.index_memory_gb * 1e9
    return 0 if exact else int(2 ** round(math.log2(4 * math.sqrt(photos))))


def searched(profile: Profile, *, photos: int, width: int) -> float:
    """The vectors that one query is compared with: all, or those of one list in 32."""
    lists = index_lists(profile, photos=photos, width=width)
    return lists + photos / 32 if lists else photos


def resident_bytes(asset: str, profile: Profile, *, photos: int, width: int) -> float:
    """The memory that grows with the gallery: its table, and the index of those who search it."""
    lists = index_lists(profile, photos=photos, width=width)
    vector = width / 8 if lists else 4 * width
    return photos * (TABLE_BYTES + (vector if asset in SEARCHING else 0))


def _photos(profile: Profile, size: Size, width: int) -> Units:
    return {"photo": size.photos}


def _segmenter(profile: Profile, size: Size, width: int) -> Units:
    fitted = profile.segmenter.kind == "codebook"
    return {"photo": min(size.photos, profile.segmenter.codebook_photos) if fitted else 0}


def _relit(profile: Profile, size: Size, width: int) -> Units:
    return {"photo": size.photos * profile.relighting.copies}


def _models(profile: Profile, size: Size, width: int) -> Units:
    held, epochs = held_out(profile, size.photos), profile.training.epochs
    return {"trained photo": epochs * held.trained, "validated photo": epochs * held.validated, "epoch": epochs}


def _index(profile: Profile, size: Size, width: int) -> Units:
    compared = comparisons_of_index(profile, photos=size.photos, width=width)
    return {"photo": size.photos, "comparison": compared * len(profile.model.variants)}


def _refiner(profile: Profile, size: Size, width: int) -> Units:
    queries = held_out(profile, size.photos).queries * (1 + profile.relighting.copies)
    return {"query": queries, "comparison": queries * searched(profile, photos=size.photos, width=width)}


def _benchmarks(profile: Profile, size: Size, width: int) -> Units:
    per_query = searched(profile, photos=size.photos, width=width) * len(profile.model.variants)
    return {"query": size.queries, "comparison": size.queries * per_query}


# By asset. `benchmarks` stands for all assets about queries, from their masks to their scores.
WORK: dict[str, Callable[[Profile, Size, int], Units]] = {
    "gallery_photos": _photos,
    "segmenter": _segmenter,
    "gallery_masks": _photos,
    "gallery_features": _photos,
    "relit_views": _relit,
    "models": _models,
    "gallery_embeddings": _photos,
    "gallery_index": _index,
    "refiner": _refiner,
    "locator": _photos,
    "benchmarks": _benchmarks,
}
