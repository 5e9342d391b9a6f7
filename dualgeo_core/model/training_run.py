"""One run of the training loop, seeded, on one process or many; a resumed run reaches the same weights.

The order of photos, augmentation and dropout are functions of (seed, step, rank), so a checkpoint needs no random
state.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from numpy.typing import NDArray
from torch import Tensor, nn

from dualgeo_core.base.artifacts import Artifact, digest_files, write_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_file, replace_folder, write_json
from dualgeo_core.base.progress import Progress
from dualgeo_core.base.tensors import read_tensors, write_tensors
from dualgeo_core.model.checkpoints import Position, load_checkpoint, save_checkpoint
from dualgeo_core.model.embed import retrieval_views
from dualgeo_core.model.fusion import Architecture, DualViewModel, new_model
from dualgeo_core.model.interruption import Interruption, TrainingInterruptedError
from dualgeo_core.model.losses import AlignmentLoss, clamp_temperatures
from dualgeo_core.model.retrieval_head import VIEWS, RetrievalViews
from dualgeo_core.model.validation import Light, fit_retrieval_head, mean_recall, nearest_km, recall_at_1, shift
from dualgeo_core.photos.photographers import split_by_photographer
from dualgeo_core.settings import Profile, Representation, TrainingSettings
from dualgeo_core.views.store import ViewBatch, Views, batch_in_light

if TYPE_CHECKING:
    from dualgeo_core.model.augmentation import AugmentedEncoding

OnMetrics = Callable[[int, dict[str, float]], None]
CHECKPOINT, BEST, RESULT = "checkpoint.safetensors", "best.safetensors", "training.json"
MAX_GRADIENT_NORM = 1.0
ENCODE_ROWS = 512
RELIT = 1  # the stream of random numbers that draws each photo's light


def unfinished_run(folder: Path) -> Path:
    """The folder of the checkpoints of a run that will fill `folder`."""
    return folder.with_name(f"{folder.name}.partial")


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


class _Step(nn.Module):
    """Model and loss in one module, so that the gradients of all parameters are averaged over processes."""

    def __init__(self, model: DualViewModel, loss: AlignmentLoss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(
        self, pooled_be: Tensor, tokens_bte: Tensor, label_maps_bhw: Tensor, degrees_b2: Tensor
    ) -> dict[str, Tensor]:
        seen = self.model(pooled_be, tokens_bte, label_maps_bhw)
        losses: dict[str, Tensor] = self.loss(
            seen, self.model.gps_encoder(degrees_b2), degrees_b2, self.model.log_scale
        )
        return losses


class TrainingRun:
    """One run of one variant; it resumes from its last checkpoint if there is one."""

    def __init__(
        self,
        views: Views,
        relit: Sequence[Views],
        augmented: "AugmentedEncoding | None",
        profile: Profile,
        variant: Representation,
        folder: Path,
        recipe: dict[str, Any],
        interruption: Interruption,
    ) -> None:
        self.views, self.relit = views, tuple(relit)
        self.profile, self.settings, self.variant = profile, profile.training, variant
        self.folder, self.partial, self.recipe = folder, unfinished_run(folder), recipe
        self.interruption = interruption
        self.augmented = augmented
        self.prepare: Callable[[Any], ViewBatch] = augmented.views if augmented else lambda batch: batch
        self.accelerator = Accelerator(
            mixed_precision=self.settings.precision,
            cpu=profile.device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        self.rank, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.split = split_by_photographer(views.frame, self.settings)
        self.degrees_n2 = torch.tensor(views.frame[["latitude", "longitude"]].to_numpy(dtype=np.float64))
        self.batch_size = step_size(self.settings, photos=len(self.split.training), processes=self.processes)
        self.steps_per_epoch = len(self.split.training) // self.batch_size
        self.steps = self.steps_per_epoch * self.settings.epochs
        self._build()

    def _build(self) -> None:
        architecture = Architecture.of(
            settings=self.profile.model,
            variant=self.variant,
            encoder_width=self.views.width,
            image_tokens=self.views.tokens_per_photo,
            classes=self.views.classes,
        )
        self.model = new_model(
            architecture=architecture, gps_weights=self.profile.model.gps_weights, seed=self.settings.seed
        )
        loss = AlignmentLoss(
            width=architecture.width,
            mask_weight=self.settings.mask_loss_weight,
            queue=self.settings.gps_queue,
            soft_target_km=self.settings.soft_target_km,
        )
        self.module = _Step(self.model, loss).to(self.accelerator.device)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.module.parameters() if p.ndim >= 2]},
            {"params": [p for p in self.module.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)
        self.position = Position()
        if (self.partial / CHECKPOINT).exists():
            self.position = load_checkpoint(
                self.partial / CHECKPOINT, recipe=self.recipe, module=self.module, optimizer=optimizer
            )
        self.wrapped, self.optimizer = self.accelerator.prepare(self.module, optimizer)
        if self.accelerator.scaler is not None and self.position.scaler:
            self.accelerator.scaler.load_state_dict(self.position.scaler)

    def train(self, on_metrics: OnMetrics, progress: Progress) -> None:
        """Trains to the last step, or until validation has not improved for `patience` epochs.

        Raises TrainingInterruptedError after a requested stop, and InputError if the loss is not finite.
        """
        saved_at, every = time.monotonic(), max(1, self.steps_per_epoch // 50)
        for step, rows, read in self._upcoming():
            if self.position.epochs_without_gain >= self.settings.patience:
                break
            metrics = self._step(step, rows, read)
            interrupted = metrics.pop("interrupted") > 0
            self.position.step = step + 1
            last_of_epoch = self.position.step % self.steps_per_epoch == 0
            if last_of_epoch:
                metrics |= {f"validation_{name}": value for name, value in self._validate().items()}
            if self.accelerator.is_main_process:
                if last_of_epoch or self.position.step % every == 0:
                    on_metrics(self.position.step, metrics)
                progress(f"train {self.variant}", self.position.step, self.steps)
            overdue = time.monotonic() - saved_at > 60 * self.settings.checkpoint_minutes
            if last_of_epoch or overdue or interrupted:
                self._save()
                saved_at = time.monotonic()
            if interrupted:
                raise TrainingInterruptedError(
                    f"training {self.variant} was stopped at step {self.position.step} of {self.steps}; "
                    "start it again to resume from this step"
                )

    def _upcoming(self) -> Iterator[tuple[int, NDArray[np.int64], Any]]:
        """Each step, the rows of all processes, and this process's batch, read while the previous step trains."""
        with ThreadPoolExecutor(1) as reader:

            def read(step: int) -> tuple[NDArray[np.int64], Any]:
                rows = self._rows(step)
                return rows, reader.submit(self._read, step, rows)

            following = read(self.position.step)
            for step in range(self.position.step, self.steps):
                (rows, batch), following = following, read(step + 1)
                yield step, rows, batch.result()

    def _rows(self, step: int) -> NDArray[np.int64]:
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.settings.seed, epoch]).permutation(self.split.training)
        return order[position * self.batch_size : (position + 1) * self.batch_size]

    def _read(self, step: int, rows: NDArray[np.int64]) -> Any:
        """This process's part of `rows`: augmented photos, or a view of each in the light drawn for it."""
        own = np.array_split(rows, self.processes)[self.rank]
        if self.augmented:
            return self.augmented.read(own)
        random = np.random.default_rng([self.settings.seed, step, RELIT])
        relit = random.random(len(rows)) < self.settings.relit_share
        copies = np.where(relit, random.integers(len(self.relit), size=len(rows)) + 1, 0) if self.relit else 0 * rows
        return batch_in_light((self.views, *self.relit), own, np.array_split(copies, self.processes)[self.rank])

    def _step(self, step: int, rows: NDArray[np.int64], read: Any) -> dict[str, float]:
        torch.manual_seed(int(np.random.SeedSequence([self.settings.seed, step, self.rank]).generate_state(1)[0]))
        rate, started = self._learning_rate(step), time.monotonic()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        device = self.accelerator.device
        batch = self.prepare(read)
        own_rows = torch.from_numpy(np.array_split(rows, self.processes)[self.rank])
        losses = self.wrapped.train()(
            batch.pooled_bd.to(device, non_blocking=True).float(),
            batch.tokens_btd.to(device, non_blocking=True).float(),
            batch.label_maps_bhw.to(device, non_blocking=True),
            self.degrees_n2[own_rows].to(device),
        )
        facts = losses | {"interrupted": torch.tensor(float(self.interruption.requested), device=device)}
        shared = self.accelerator.gather(torch.stack([x.detach().double() for x in facts.values()])).view(
            -1, len(facts)
        )
        metrics = dict(zip(facts, shared.mean(dim=0).tolist(), strict=True))
        if not math.isfinite(metrics["loss"]):
            raise self._diverged(metrics["loss"], step, rate, rows)
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.module.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        clamp_temperatures(self.module.model.log_scale)
        scales = {f"{view}_temperature": math.exp(-x.item()) for view, x in self.module.model.log_scale.items()}
        speed = len(rows) / (time.monotonic() - started)
        return {**metrics, **scales, "learning_rate": rate, "photos_per_second": speed}

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up over `warmup_share` of the steps, then cosine decay to zero."""
        warmup = max(1, round(self.settings.warmup_share * self.steps))
        if step < warmup:
            return self.settings.learning_rate * (step + 1) / warmup
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup)))

    def _diverged(self, loss: float, step: int, rate: float, rows: NDArray[np.int64]) -> InputError:
        ids = self.views.frame["id"].iloc[rows].tolist()
        path = self.partial / "diverged.json"
        if self.accelerator.is_main_process:
            write_json(path, {"step": step, "learning_rate": rate, "loss": str(loss), "ids": ids})
        return InputError(
            f"the loss became {loss} at step {step} with learning rate {rate:.3g} on the batch of photos "
            f"{', '.join(ids[:3])}, ... (all {len(ids)} in {path}); lower training.learning_rate, "
            "or check the features of these photos"
        )

    def _validate(self) -> dict[str, float]:
        """Recall of the trained views alone; saves the weights if this epoch is the best so far."""
        head = self.model.retrieval_head
        queries, gallery = (self._frame(rows) for rows in (self.split.queries, self.split.gallery))
        gallery_nd = head(self._views(self.views, self.split.gallery))
        recall = mean_recall(
            [
                recall_at_1(nearest_km(head(self._views(views, self.split.queries)) @ gallery_nd.T, queries, gallery))
                for views in (self.views, *self.relit[:1])
            ]
        )
        if recall["recall_mean"] > self.position.best.get("recall_mean", -1.0):
            self.position.best, self.position.best_step = recall, self.position.step
            self.position.epochs_without_gain = 0
            if self.accelerator.is_main_process:
                with atomic_file(self.partial / BEST) as temporary:
                    write_tensors(temporary, self.model.state_dict())
        else:
            self.position.epochs_without_gain += 1
        return recall

    def _views(self, views: Views, rows: NDArray[np.int64]) -> RetrievalViews:
        """The trained `views` of `rows`; each process computes its share."""
        self.model.eval()
        per_process = math.ceil(len(rows) / self.processes)
        own = rows[np.minimum(np.arange(self.rank * per_process, (self.rank + 1) * per_process), len(rows) - 1)]
        parts = [
            retrieval_views(self.model, views.batch(own[start : start + ENCODE_ROWS]), self.accelerator.device)
            for start in range(0, len(own), ENCODE_ROWS)
        ]
        shared = (
            None if batches[0] is None else self.accelerator.gather(torch.cat(batches))[: len(rows)]
            for batches in zip(*parts, strict=True)
        )
        return RetrievalViews._make(shared)

    def _held_out(self) -> Light:
        """The held-out photos, clean and in the light of the first copy."""
        clean = self._views(self.views, self.split.queries)
        if not self.relit:
            return Light(clean)
        relit, gallery = self._views(self.relit[0], self.split.queries), self.split.gallery
        moved = shift(self.views.pooled(gallery), self.relit[0].pooled(gallery)).to(self.accelerator.device)
        return Light(clean, relit, encoder_shift=moved)

    def _frame(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        return self.views.frame.iloc[rows]

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            if self.accelerator.scaler is not None:
                self.position.scaler = self.accelerator.scaler.state_dict()
            save_checkpoint(
                self.partial / CHECKPOINT,
                recipe=self.recipe,
                position=self.position,
                module=self.module,
                optimizer=self.optimizer,
            )
        self.accelerator.wait_for_everyone()

    def finish(self, artifact: Artifact) -> None:
        """Fits the retrieval head of the best epoch's model, and writes model and result to the run's folder."""
        self.accelerator.wait_for_everyone()
        remedy = f"delete {self.partial} to train from the start"
        self.model.load_state_dict(read_tensors(self.partial / BEST, remedy=remedy))
        recall = fit_retrieval_head(
            head=self.model.retrieval_head,
            gallery_views=self._views(self.views, self.split.gallery),
            held_out=self._held_out(),
            gallery=self._frame(self.split.gallery),
            queries=self._frame(self.split.queries),
            whitening=self.profile.model.whitening,
        )
        if self.accelerator.is_main_process:
            target = self.partial / "model"
            self.model.save_pretrained(target)
            weights = dict(zip(VIEWS, self.model.retrieval_head.weights.tolist(), strict=True))
            write_json(
                target / RESULT,
                {
                    "step": self.position.step,
                    "best_step": self.position.best_step,
                    "validation": recall,
                    "retrieval_weights": weights,
                },
            )
            write_record(target, artifact, digest_files(target), {"recipe": self.recipe})
            replace_folder(target, self.folder)
            shutil.rmtree(self.partial)
        self.accelerator.wait_for_everyone()
