"""Photos per second that the readers of a training deliver, alone and while the model of the profile `paper` trains.

    python benchmarks/feeding.py [--photos 200000] [--width 768] [--readers 2] [--shuffle-photos 131072] [--cold]

Writes random features and label maps in the format of the pipeline to a temporary folder: 16 + 1 vectors of `--width`
values in half precision and 32 x 32 classes per photo. Reads one epoch with the pipeline's own readers. The files are
in the page cache if they fit into memory, because they were just written; with --cold they are dropped from it first.

`together_share` compares training from the readers with training again and again on one batch in memory. On a CPU a
step takes so long that it never waits, so the same is measured with a stand-in: a step that leaves the CPU idle as a
GPU does, and trains 20,000 photos per second. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from train_step import BATCH, CLASSES, DEVICE, TOKENS, OurStep

from dualgeo_core.base.shards import ShardKey
from dualgeo_core.base.tensors import read_tensors, write_tensors
from dualgeo_core.model.batches import TrainingBatches
from dualgeo_core.photos.writer import SHARD_PHOTOS
from dualgeo_core.settings import TrainingSettings
from dualgeo_core.views.store import ViewBatch, Views

LABEL_GRID = 32
STAND_IN_PHOTOS_PER_S, STAND_IN_STEPS = 20_000, 400
WARM_UP_STEPS = 10
STEPS = 200 if DEVICE.type == "cuda" else 6
FIELDS = ("pooled", "tokens", "label_maps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--shuffle-photos", type=int, default=TrainingSettings().shuffle_photos)
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before reading")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    settings = TrainingSettings(
        batch_size=BATCH, epochs=100, readers=arguments.readers, shuffle_photos=arguments.shuffle_photos
    )
    with tempfile.TemporaryDirectory() as folder:
        write_views(Path(folder), photos=arguments.photos, width=arguments.width)
        if arguments.cold:
            drop_from_page_cache(Path(folder))
        batches = TrainingBatches(
            views=read_views(Path(folder)),
            relit=(),
            augmented=None,
            settings=settings,
            training_rows=np.arange(arguments.photos),
            rank=0,
            processes=1,
            device=DEVICE,
        )
        print(json.dumps({"device": DEVICE.type, **vars(arguments), **measured(batches, width=arguments.width)}))


def measured(batches: TrainingBatches, *, width: int) -> dict[str, float]:
    """The rates of readers, step and both."""
    bytes_per_photo = (1 + TOKENS) * width * 2 + LABEL_GRID**2
    reading = rate(batches, lambda batch: None, steps=batches.steps_per_epoch - WARM_UP_STEPS)
    result: dict[str, float] = {
        "bytes_per_photo": bytes_per_photo,
        "reader_rows_per_s": round(reading),
        "reader_mb_per_s": round(reading * bytes_per_photo / 1e6),
    }
    steps_of: dict[str, tuple[Callable[[ViewBatch], object], int]] = {
        "": (OurStep(variant="joint", encoder_width=width), STEPS),
        "stand_in_": (stand_in, STAND_IN_STEPS),
    }
    for name, (step, steps) in steps_of.items():
        with closing(batches.upcoming(0)) as upcoming:
            one = next(upcoming).read
        alone = BATCH / min(seconds_per_step(step, one, steps=steps) for _ in range(2))
        together = rate(batches, step, steps=steps)
        result |= {
            f"{name}step_photos_per_s": round(alone, 1),
            f"{name}together_photos_per_s": round(together, 1),
            f"{name}together_share": round(together / alone, 4),
        }
    return result


def rate(batches: TrainingBatches, step: Callable[[ViewBatch], object], *, steps: int) -> float:
    """Photos per second of `step` on batches from the readers, after a warm-up in which the readers start."""
    with closing(batches.upcoming(0)) as upcoming:
        for batch in islice(upcoming, WARM_UP_STEPS if steps > WARM_UP_STEPS else 1):
            step(batch.read)
        started = time.perf_counter()
        for batch in islice(upcoming, steps):
            step(batch.read)
        return steps * BATCH / (time.perf_counter() - started)


def seconds_per_step(step: Callable[[ViewBatch], object], batch: ViewBatch, *, steps: int) -> float:
    """The mean time of `step` on one batch in memory, after one warm-up."""
    step(batch)
    started = time.perf_counter()
    for _ in range(steps):
        step(batch)
    return (time.perf_counter() - started) / steps


def stand_in(batch: ViewBatch) -> None:
    """Takes the time of a step at STAND_IN_PHOTOS_PER_S, and no CPU."""
    time.sleep(BATCH / STAND_IN_PHOTOS_PER_S)


def write_views(folder: Path, *, photos: int, width: int) -> None:
    """Random views, the same in each shard: reading them takes the same time as reading different ones."""
    random = torch.Generator().manual_seed(0)
    shard = {
        "pooled": torch.randn(SHARD_PHOTOS, width, generator=random).half(),
        "tokens": torch.randn(SHARD_PHOTOS, TOKENS, width, generator=random).half(),
        "label_maps": torch.randint(0, CLASSES, (SHARD_PHOTOS, LABEL_GRID, LABEL_GRID), generator=random).byte(),
    }
    for number, key in enumerate(shard_rows(photos)):
        rows = {name: values[: len(key)] for name, values in shard.items()}
        write_tensors(folder / f"features-{number:05}", {name: rows[name] for name in FIELDS[:2]})
        write_tensors(folder / f"label-maps-{number:05}", {name: rows[name] for name in FIELDS[2:]})


def read_views(folder: Path) -> Views:
    """The written views, memory-mapped."""
    features, label_maps = (sorted(folder.glob(f"{kind}-*")) for kind in ("features", "label-maps"))
    shards = tuple(
        ViewBatch(*(read_tensors(path, remedy="run again")[name] for path, name in zip((a, a, b), FIELDS, strict=True)))
        for a, b in zip(features, label_maps, strict=True)
    )
    photos, width = sum(len(shard.pooled_bd) for shard in shards), shards[0].pooled_bd.shape[1]
    return Views(
        frame=pd.DataFrame({"id": range(photos)}),
        fingerprint="",
        encoder="",
        segmenter="",
        label_grid=LABEL_GRID,
        classes=CLASSES,
        width=width,
        tokens_per_photo=TOKENS,
        shards=shards,
        shard_keys=tuple(ShardKey(str(rows.start), "random", rows) for rows in shard_rows(photos)),
    )


def shard_rows(photos: int) -> Iterator[range]:
    for start in range(0, photos, SHARD_PHOTOS):
        yield range(start, min(start + SHARD_PHOTOS, photos))


def drop_from_page_cache(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
