"""Training batches. Each is a function of (seed, step, rank), so a resumed run reads what an undisturbed run reads."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import TrainingSettings
from dualgeo_core.views.store import ViewBatch, Views, batch_in_light

if TYPE_CHECKING:
    from dualgeo_core.model.augmentation import AugmentedEncoding

RELIT = 1  # the stream of random numbers that draws each photo's light


class Batch(NamedTuple):
    """One step's photos: `rows` of all processes, `own_rows` of this one, and what this process has read of its own."""

    step: int
    rows: NDArray[np.int64]
    own_rows: NDArray[np.int64]
    read: Any


def step_size(settings: TrainingSettings, *, photos: int, processes: int) -> int:
    """The number of photos per step over all processes: the largest multiple of `processes` up to the batch size.

    Raises InputError if the batch or the training photos are fewer than the processes.
    """
    most = min(settings.batch_size, photos)
    if most < processes:
        raise InputError(
            f"{processes} training processes need a photo each, but training.batch_size is {settings.batch_size} "
            f"and there are {photos} training photos; raise training.batch_size or start fewer processes"
        )
    return most // processes * processes


class TrainingBatches:
    """The batches of one process: views of the photos in the light drawn for each, or freshly augmented photos."""

    def __init__(
        self,
        *,
        views: Views,
        relit: Sequence[Views],
        augmented: "AugmentedEncoding | None",
        settings: TrainingSettings,
        training_rows: NDArray[np.int64],
        rank: int,
        processes: int,
    ) -> None:
        self.views, self.relit, self.augmented, self.settings = views, tuple(relit), augmented, settings
        self.rank, self.processes = rank, processes
        self.batch_size = step_size(settings, photos=len(training_rows), processes=processes)
        self.steps_per_epoch = len(training_rows) // self.batch_size
        self.steps = self.steps_per_epoch * settings.epochs

        @lru_cache(maxsize=2)  # the reader is one step ahead, so it may be in the next epoch
        def order(epoch: int) -> NDArray[np.int64]:
            return np.random.default_rng([settings.seed, epoch]).permutation(training_rows)

        self._order = order

    def upcoming(self, start: int) -> Iterator[Batch]:
        """The batches from step `start` to the last; each is read while the previous step trains."""
        with ThreadPoolExecutor(1) as reader:
            following = reader.submit(self._batch, start)
            for step in range(start, self.steps):
                batch = following.result()
                if step + 1 < self.steps:
                    following = reader.submit(self._batch, step + 1)
                yield batch

    def on_device(self, batch: Batch) -> ViewBatch:
        """Both views of this process's photos; augmented photos are encoded here, on the encoder's device."""
        read: ViewBatch = batch.read if self.augmented is None else self.augmented.views(batch.read)
        return read

    def _batch(self, step: int) -> Batch:
        epoch, position = divmod(step, self.steps_per_epoch)
        rows = self._order(epoch)[position * self.batch_size : (position + 1) * self.batch_size]
        own_rows = self._own(rows)
        if self.augmented:
            return Batch(step, rows, own_rows, self.augmented.read(own_rows))
        random = np.random.default_rng([self.settings.seed, step, RELIT])
        relit = random.random(len(rows)) < self.settings.relit_share
        copies = np.where(relit, random.integers(len(self.relit), size=len(rows)) + 1, 0) if self.relit else 0 * rows
        return Batch(step, rows, own_rows, batch_in_light((self.views, *self.relit), own_rows, self._own(copies)))

    def _own(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array_split(values, self.processes)[self.rank]
