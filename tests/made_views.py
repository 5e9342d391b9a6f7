"""Synthetic views: features and label maps that depend on a place and on the photographer's weather."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.geo import destination
from dualgeo_core.views.label_maps import root_class_shares
from dualgeo_core.views.store import ViewBatch

WIDTH, TOKENS, CLASSES, GRID = 48, 4, 12, 16


@dataclass(frozen=True)
class MadeViews:
    """Row-aligned views held in memory, with the attributes and `batch` of `dualgeo_core.views.store.Views`."""

    frame: pd.DataFrame
    pooled_nd: torch.Tensor
    tokens_ntd: torch.Tensor
    label_maps_nhw: torch.Tensor
    fingerprint: str
    classes: int = CLASSES
    width: int = WIDTH
    tokens_per_photo: int = TOKENS

    def pooled(self, rows: np.ndarray) -> torch.Tensor:
        return self.pooled_nd[torch.from_numpy(np.asarray(rows))]

    def class_shares(self, rows: np.ndarray) -> torch.Tensor:
        return root_class_shares(self.label_maps_nhw[torch.from_numpy(np.asarray(rows))], classes=self.classes)

    def batch(self, rows: np.ndarray) -> ViewBatch:
        taken = torch.from_numpy(np.asarray(rows))
        return ViewBatch(self.pooled_nd[taken], self.tokens_ntd[taken], self.label_maps_nhw[taken])


class OneShard:
    """Embeddings as one shard, as `build_index` reads it."""

    sha256 = "all"

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors, self.width = vectors, vectors.shape[1]

    def __len__(self) -> int:
        return len(self._vectors)

    def vectors(self) -> np.ndarray:
        return self._vectors


def make_views(
    *, places: int = 40, photos_per_place: int = 6, weather: float = 1.0, noise: float = 0.5, seed: int = 0
) -> MadeViews:
    """Photos of random places on land and sea, by six photographers in turn, each with one kind of weather.

    A place decides the features and the shares of classes; weather shifts the features alone.
    """
    random = np.random.default_rng(seed)
    count = places * photos_per_place
    place = np.repeat(np.arange(places), photos_per_place)
    author = np.tile(np.arange(photos_per_place), places)
    latitude = np.degrees(np.arcsin(random.uniform(-1, 1, places)))[place]
    longitude = random.uniform(-180, 180, places)[place]
    latitude, longitude = destination(latitude, longitude, random.uniform(0, 360, count), random.uniform(0, 0.4, count))
    look, shift = random.normal(size=(places, WIDTH)), random.normal(size=(photos_per_place, WIDTH))
    clear = look[place] + weather * shift[author]
    pooled = clear + noise * random.normal(size=(count, WIDTH))
    tokens = clear[:, None] + noise * random.normal(size=(count, TOKENS, WIDTH))
    classes = random.integers(0, CLASSES, size=(places, 2))[place]
    pick = random.integers(0, 2, size=(count, GRID * GRID))
    label_maps = np.take_along_axis(classes, pick, axis=1).reshape(count, GRID, GRID)
    frame = pd.DataFrame(
        {
            "id": [f"photo-{row:04d}" for row in range(count)],
            "latitude": latitude,
            "longitude": longitude,
            "author": [f"photographer-{number}" for number in author],
        }
    )
    return MadeViews(
        frame=frame,
        pooled_nd=torch.tensor(pooled, dtype=torch.float16),
        tokens_ntd=torch.tensor(tokens, dtype=torch.float16),
        label_maps_nhw=torch.tensor(label_maps, dtype=torch.uint8),
        fingerprint=fingerprint("made", places, photos_per_place, weather, noise, seed),
    )
