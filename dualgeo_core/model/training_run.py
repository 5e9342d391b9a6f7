"""One run of the training loop, seeded, on one process or many; a resumed run reaches the same weights.

Batches, augmentation and dropout are functions of (seed, step, rank), so a checkpoint needs no random state.
"""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from dualgeo_core.base.artifacts import Artifact, digest_files, write_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_file, replace_folder, write_json
from dualgeo_core.base.progress import Progress
from dualgeo_core.base.tensors import read_tensors, write_tensors
from dualgeo_core.model.batches import Batch, TrainingBatches
from dualgeo_core.model.checkpoints import Position, load_checkpoint, save_checkpoint
from dualgeo_core.model.fusion import Architecture, DualViewModel, new_model
from dualgeo_core.model.held_out import HeldOutRetrieval
from dualgeo_core.model.interruption import Interruption, TrainingInterruptedError
from dualgeo_core.model.losses import AlignmentLoss, clamp_temperatures
from dualgeo_core.model.retrieval_head import VIEWS
from dualgeo_core.photos.photographers import split_by_photographer
from dualgeo_core.settings import Profile, Representation
from dualgeo_core.views.store import Views

if TYPE_CHECKING:
    from dualgeo_core.model.augmentation import AugmentedEncoding

OnMetrics = Callable[[int, dict[str, float]], None]
CHECKPOINT, BEST, RESULT = "checkpoint.safetensors", "best.safetensors", "training.json"
MAX_GRADIENT_NORM = 1.0


def unfinished_run(folder: Path) -> Path:
    """The folder of the checkpoints of a run that will fill `folder`."""
    return folder.with_name(f"{folder.name}.partial")


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
        self.views, self.profile, self.settings, self.variant = views, profile, profile.training, variant
        self.folder, self.partial, self.recipe = folder, unfinished_run(folder), recipe
        self.interruption = interruption
        self.accelerator = Accelerator(
            mixed_precision=self.settings.precision,
            cpu=profile.device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        split = split_by_photographer(views.frame, self.settings)
        self.batches = TrainingBatches(
            views=views,
            relit=relit,
            augmented=augmented,
            settings=self.settings,
            training_rows=split.training,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            device=self.accelerator.device,
        )
        self.degrees_n2 = torch.tensor(views.frame[["latitude", "longitude"]].to_numpy(dtype=np.float64))
        self._build()
        self.held_out = HeldOutRetrieval(
            model=self.model, views=views, relit=relit, split=split, accelerator=self.accelerator
        )

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
        # Closed at once, so that its readers end before anything else does.
        with closing(self.batches.upcoming(self.position.step)) as batches:
            saved_at = started = time.monotonic()
            for batch in batches:
                if self.position.epochs_without_gain >= self.settings.patience:
                    break
                waited = time.monotonic() - started
                metrics = self._step(batch)
                elapsed = time.monotonic() - started
                metrics |= {"photos_per_second": len(batch.rows) / elapsed, "waiting_share": waited / elapsed}
                interrupted = metrics.pop("interrupted") > 0
                last_of_epoch = self._report(batch, metrics, on_metrics, progress)
                overdue = time.monotonic() - saved_at > 60 * self.settings.checkpoint_minutes
                if last_of_epoch or overdue or interrupted:
                    self._save()
                    saved_at = time.monotonic()
                if interrupted:
                    raise TrainingInterruptedError(
                        f"training {self.variant} was stopped at step {self.position.step} of {self.batches.steps}; "
                        "start it again to resume from this step"
                    )
                started = time.monotonic()

    def _report(self, batch: Batch, metrics: dict[str, float], on_metrics: OnMetrics, progress: Progress) -> bool:
        """Reports a finished step, after validation if it is the last one of an epoch. Returns whether it is."""
        steps_per_epoch = self.batches.steps_per_epoch
        self.position.step = batch.step + 1
        last_of_epoch = self.position.step % steps_per_epoch == 0
        if last_of_epoch:
            metrics |= {f"validation_{name}": value for name, value in self._validate().items()}
        if self.accelerator.is_main_process:
            if last_of_epoch or self.position.step % max(1, steps_per_epoch // 50) == 0:
                on_metrics(self.position.step, metrics)
            progress(f"train {self.variant}", self.position.step, self.batches.steps)
        return last_of_epoch

    def _step(self, batch: Batch) -> dict[str, float]:
        seeds = np.random.SeedSequence([self.settings.seed, batch.step, self.accelerator.process_index])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        rate = self._learning_rate(batch.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        device = self.accelerator.device
        views = self.batches.on_device(batch)
        losses = self.wrapped.train()(
            views.pooled_bd.to(device, non_blocking=True).float(),
            views.tokens_btd.to(device, non_blocking=True).float(),
            views.label_maps_bhw.to(device, non_blocking=True),
            self.degrees_n2[torch.from_numpy(batch.own_rows)].to(device),
        )
        facts = losses | {"interrupted": torch.tensor(float(self.interruption.requested), device=device)}
        shared = self.accelerator.gather(torch.stack([x.detach().double() for x in facts.values()])).view(
            -1, len(facts)
        )
        metrics = dict(zip(facts, shared.mean(dim=0).tolist(), strict=True))
        if not math.isfinite(metrics["loss"]):
            raise self._diverged(metrics["loss"], rate, batch)
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.module.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        clamp_temperatures(self.module.model.log_scale)
        scales = {f"{view}_temperature": math.exp(-x.item()) for view, x in self.module.model.log_scale.items()}
        return {**metrics, **scales, "learning_rate": rate}

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up over `warmup_share` of the steps, then cosine decay to zero."""
        steps = self.batches.steps
        warmup = max(1, round(self.settings.warmup_share * steps))
        if step < warmup:
            return self.settings.learning_rate * (step + 1) / warmup
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))

    def _diverged(self, loss: float, rate: float, batch: Batch) -> InputError:
        ids = self.views.frame["id"].iloc[batch.rows].tolist()
        path = self.partial / "diverged.json"
        if self.accelerator.is_main_process:
            write_json(path, {"step": batch.step, "learning_rate": rate, "loss": str(loss), "ids": ids})
        return InputError(
            f"the loss became {loss} at step {batch.step} with learning rate {rate:.3g} on the batch of photos "
            f"{', '.join(ids[:3])}, ... (all {len(ids)} in {path}); lower training.learning_rate, "
            "or check the features of these photos"
        )

    def _validate(self) -> dict[str, float]:
        """Recall on held-out photographers; saves the weights if this epoch is the best so far."""
        recall = self.held_out.recall()
        if recall["recall_mean"] > self.position.best.get("recall_mean", -1.0):
            self.position.best, self.position.best_step = recall, self.position.step
            self.position.epochs_without_gain = 0
            if self.accelerator.is_main_process:
                with atomic_file(self.partial / BEST) as temporary:
                    write_tensors(temporary, self.model.state_dict())
        else:
            self.position.epochs_without_gain += 1
        return recall

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
        recall = self.held_out.fit_head(whitening=self.profile.model.whitening)
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
