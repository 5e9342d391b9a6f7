"""Training batches. Each is a function of (seed, step, rank), so a resumed run reads what an undisturbed run reads."""

import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from dualgeo_core.base.errors import InputError
from dualgeo_core.model.photo_order import epoch_order
from dualgeo_core.settings import TrainingSettings
from dualgeo_core.views.store import ViewBatch, Views, batch_in_light

if TYPE_CHECKING:
    from dualgeo_core.model.augmentation import AugmentedEncoding

RELIT = 1  # the stream of random numbers that draws each photo's light
MOST_READERS = 3  # they read more than a GPU trains, and their batches fit into a container's 64 MB of shared memory
BATCHES_AHEAD = 2  # per reader


class Step(NamedTuple):
    """A step's number, and the rows of its photos over all processes."""

    number: int
    rows: NDArray[np.int64]


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


def reader_processes(settings: TrainingSettings, *, device: torch.device) -> int:
    """The number of processes that read batches of this training process; 0: it reads them itself."""
    if settings.readers is not None:
        return settings.readers
    if device.type != "cuda":  # a CPU's cores are for the model
        return 0
    cores = (os.cpu_count() or 1) // torch.cuda.device_count()
    return max(1, min(MOST_READERS, cores - 1))


class TrainingBatches(Dataset[Batch | InputError]):
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
        device: torch.device,
    ) -> None:
        self.views, self.relit, self.augmented, self.settings = views, tuple(relit), augmented, settings
        self.rank, self.processes, self.device = rank, processes, device
        self.batch_size = step_size(settings, photos=len(training_rows), processes=processes)
        self.steps_per_epoch = len(training_rows) // self.batch_size
        self.steps = self.steps_per_epoch * settings.epochs
        self._training_rows = training_rows

    def upcoming(self, start: int) -> Generator[Batch]:
        """The batches from step `start` to the last, read ahead by `reader_processes`.

        The tensors of a batch are valid until the next batch is asked for. Raises the InputError of a photo that cannot
        be read.
        """
        if start == self.steps:
            return
        readers = reader_processes(self.settings, device=self.device)
        self._memory = SharedMemory(self._read(next(self._steps(start))), copies=BATCHES_AHEAD * readers + 1)
        loader = DataLoader(
            self,
            sampler=self._steps(start),
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=readers,
            prefetch_factor=BATCHES_AHEAD if readers else None,
            multiprocessing_context="fork" if readers else None,  # shares the memory-mapped views
            worker_init_fn=_end_with_training,
            generator=torch.Generator(),  # otherwise the loader takes a number of the generator of dropout
        )
        upcoming = iter(loader)  # starts the readers
        with self._memory.pinned(self.device):
            for batch in upcoming:
                if isinstance(batch, InputError):
                    raise batch
                yield batch._replace(read=self._memory[batch.step])

    def on_device(self, batch: Batch) -> ViewBatch:
        """Both views of this process's photos; augmented photos are encoded here, on the encoder's device."""
        read: ViewBatch = batch.read if self.augmented is None else self.augmented.views(batch.read)
        return read

    def _steps(self, start: int) -> Iterator[Step]:
        @lru_cache(maxsize=1)
        def order(epoch: int) -> NDArray[np.int64]:
            return epoch_order(
                self._training_rows, at_once=self.settings.shuffle_photos, seed=self.settings.seed, epoch=epoch
            )

        for step in range(start, self.steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            yield Step(step, order(epoch)[position * self.batch_size : (position + 1) * self.batch_size])

    def __getitem__(self, step: Step) -> Batch | InputError:
        """The batch of a step, whose photos are written to shared memory. An InputError is returned as it is."""
        try:
            self._memory.write(step.number, self._read(step))
        except InputError as error:
            return error  # raised in a reader, it would be wrapped in a traceback
        return Batch(step.number, step.rows, self._own(step.rows), read=None)

    def _read(self, step: Step) -> Any:
        return self.augmented.read(self._own(step.rows)) if self.augmented else self._views_in_light(step)

    def _views_in_light(self, step: Step) -> ViewBatch:
        random = np.random.default_rng([self.settings.seed, step.number, RELIT])
        relit = random.random(len(step.rows)) < self.settings.relit_share
        copies = (
            np.where(relit, random.integers(len(self.relit), size=len(step.rows)) + 1, 0)
            if self.relit
            else 0 * step.rows
        )
        return batch_in_light((self.views, *self.relit), self._own(step.rows), self._own(copies))

    def _own(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array_split(values, self.processes)[self.rank]


class SharedMemory:
    """Memory for the tensors of consecutive batches. Reader processes write it, and training reads it.

    Tensors that processes send to one another take new memory and a connection each, which costs more than to read
    them.
    """

    def __init__(self, example: Any, *, copies: int) -> None:
        self._batches = [
            type(example)(*(torch.empty_like(values).share_memory_() for values in example)) for _ in range(copies)
        ]

    def __getitem__(self, step: int) -> Any:
        """The tensors of a step, until the step that is `copies` later is written."""
        return self._batches[step % len(self._batches)]

    def write(self, step: int, tensors: Any) -> None:
        """Sets the tensors of a step."""
        for target, values in zip(self[step], tensors, strict=True):
            target.copy_(values)

    @contextmanager
    def pinned(self, device: torch.device) -> Iterator[None]:
        """In the block, a GPU reads the memory directly."""
        memory = [values for batch in self._batches for values in batch] if device.type == "cuda" else []
        for values in memory:
            torch.cuda.cudart().cudaHostRegister(values.data_ptr(), values.nbytes, 1)  # for all devices
        try:
            yield
        finally:
            for values in memory:
                torch.cuda.cudart().cudaHostUnregister(values.data_ptr())


def _unchanged(batch: Any) -> Any:
    return batch


def _end_with_training(reader: int) -> None:
    """Lets a reader live as long as its training process.

    Ctrl-C and SIGTERM often reach all processes of a group, but training still needs the batch of its last step.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
