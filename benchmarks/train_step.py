"""Photos per second of one training step at batch 256: a plain version of the published design, and ours.

    python benchmarks/train_step.py

Published (He et al. 2026, as in its code): every step runs the frozen ViT-L/14, reads label maps as grey levels,
applies attention across the photos of the batch, and projects GPS positions on the CPU. Ours: the model of the profile
`paper` on features that are encoded once and read from memory-mapped files, as in training. Both train in float32 on
the CPU and in bfloat16 on a GPU. The ViT has CLIP's configuration and random weights, which do not change its speed.

On the CPU the frozen forward pass is timed on 8 photos and multiplied by 32, because it does the same work for every
photo. Everything else is timed at the full batch. The last line is JSON; `ratio` is ours / published in photos per
second.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from dualgeo_core.model.fusion import Architecture, new_model
from dualgeo_core.model.gps_encoder import GpsEncoder, equal_earth, sphere_points
from dualgeo_core.model.losses import AlignmentLoss
from dualgeo_core.photos.photo_set import ShardKey
from dualgeo_core.settings import ModelSettings, Representation, TrainingSettings
from dualgeo_core.views.store import ViewBatch, Views

BATCH, CLASSES, TOKENS, STORED = 256, 150, 16, 1024
ENCODER_WIDTH, OUR_WIDTH = 1024, 768  # CLIP's hidden width, and that of its projection, which we store
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRECISION = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
ENCODED_AT_ONCE = BATCH if DEVICE.type == "cuda" else 8
REPEATS = 20 if DEVICE.type == "cuda" else 3
EPOCHS = TrainingSettings().epochs


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median time of `work` in seconds, after one warm-up run."""
    times = []
    for _ in range(repeats + 1):
        _finish()
        started = time.perf_counter()
        work()
        _finish()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _finish() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def trainable(module: nn.Module, loss: Callable[[], Tensor], precision: torch.dtype = PRECISION) -> Callable[[], None]:
    """A function that runs one AdamW step on `module` with `loss`."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-5)

    def step() -> None:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class PublishedModel(nn.Module):
    """The trained part as published: attention over the batch axis, grey-level masks, GPS projected on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(ENCODER_WIDTH, 768), nn.ReLU(), nn.Linear(768, 512))
        self.mask = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(8),
            nn.Flatten(),
            nn.Linear(64 * 64, 512),
        )
        self.image_to_mask = nn.MultiheadAttention(512, 8)
        self.mask_to_image = nn.MultiheadAttention(512, 8)
        self.gps = GpsEncoder(width=512, hidden=1024, projection="equal_earth", sigmas=(1.0, 16.0, 256.0))
        self.scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, pooled_be: Tensor, grey_b1hw: Tensor, degrees_n2: Tensor) -> Tensor:
        image, mask = self.image(pooled_be), self.mask(grey_b1hw)
        image, mask = self.image_to_mask(image, mask, mask)[0], self.mask_to_image(mask, image, image)[0]
        points = equal_earth(degrees_n2.cpu().double()).to(DEVICE).float()  # to the CPU and back, each step
        gps = functional.normalize(torch.stack([scale(points) for scale in self.gps.scales]).sum(dim=0), dim=-1)
        own = torch.arange(len(gps), device=DEVICE)
        losses = []
        for view in (image, mask):
            logits = self.scale.exp() * functional.normalize(view, dim=-1) @ gps.T
            losses.append(functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own))
        return torch.stack(losses).sum() / 2


def published() -> dict[str, float]:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    configuration = CLIPVisionConfig(
        hidden_size=ENCODER_WIDTH, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14
    )
    vit = CLIPVisionModel(configuration).eval().requires_grad_(False).to(DEVICE)
    pixels = torch.randn(ENCODED_AT_ONCE, 3, 224, 224, device=DEVICE)

    def encode() -> Tensor:
        with torch.no_grad(), torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=DEVICE.type == "cuda"):
            pooled: Tensor = vit(pixels).pooler_output
            return pooled

    model = PublishedModel().to(DEVICE)
    pooled, grey = torch.randn(BATCH, ENCODER_WIDTH, device=DEVICE), torch.rand(BATCH, 1, 224, 224, device=DEVICE)
    degrees = _degrees(BATCH).to(DEVICE)
    train = trainable(model, lambda: model(pooled, grey, degrees))
    parts = BATCH // ENCODED_AT_ONCE
    encoding = parts * seconds(encode)
    return {
        "encoding_s": encoding,
        "step_s": encoding + seconds(train),
        "tflop": (parts * flops(encode) + flops(train)) / 1e12,
        "peak_gb": _peak_gb(),
    }


class OurStep:
    """A training step of the profile `paper`, on views as the pipeline reads them."""

    def __init__(
        self,
        *,
        variant: Representation,
        encoder_width: int = OUR_WIDTH,
        precision: torch.dtype = PRECISION,
        settings: ModelSettings = ModelSettings(),
    ) -> None:
        training = TrainingSettings()
        architecture = Architecture.of(
            settings=settings,
            variant=variant,
            encoder_width=encoder_width,
            image_tokens=TOKENS,
            classes=CLASSES,
        )
        self.model = new_model(architecture=architecture, gps_weights="random", seed=0).to(DEVICE)
        self._loss = AlignmentLoss(
            width=settings.width, mask_weight=1.0, queue=training.gps_queue, soft_target_km=training.soft_target_km
        ).to(DEVICE)
        # The queue is full in most steps of a training run.
        queue_qd = torch.randn(training.gps_queue, settings.width, device=DEVICE)
        self._loss.queue_gps_qd = functional.normalize(queue_qd, dim=-1)
        self._loss.queue_points_q3 = sphere_points(_degrees(training.gps_queue)).float().to(DEVICE)
        self._train = trainable(self.model, self._value, precision)

    def __call__(self, batch: ViewBatch) -> None:
        self._batch = ViewBatch(*(values.to(DEVICE, non_blocking=True) for values in batch))
        self._degrees = _degrees(len(batch.pooled_bd)).to(DEVICE)
        self._train()

    def _value(self) -> Tensor:
        pooled_be, tokens_bte, label_maps_bhw = self._batch
        seen, degrees_b2 = self.model(pooled_be.float(), tokens_bte.float(), label_maps_bhw), self._degrees
        value: Tensor = self._loss(seen, self.model.gps_encoder(degrees_b2), degrees_b2, self.model.log_scale)["loss"]
        return value


def ours() -> dict[str, float]:
    step, order = OurStep(variant="cross_attention"), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        views = _stored_views(Path(folder))

        def train() -> None:
            step(views.batch(order.permutation(STORED)[:BATCH]))

        return {
            "step_s": seconds(train),
            "tflop": flops(train) / 1e12,
            "gb_read": BATCH * (1 + TOKENS) * OUR_WIDTH * 2 / 1e9,
            "parameters": float(sum(p.numel() for p in step.model.parameters())),
            "peak_gb": _peak_gb(),
        }


def _stored_views(folder: Path) -> Views:
    """Random features in memory-mapped files, in the format of `dualgeo_core.views`."""
    tensors = {
        "pooled": torch.randn(STORED, OUR_WIDTH).half(),
        "tokens": torch.randn(STORED, TOKENS, OUR_WIDTH).half(),
        "label_maps": torch.randint(0, CLASSES, (STORED, 32, 32), dtype=torch.uint8),
    }
    save_file(tensors, folder / "features.safetensors")
    with safe_open(folder / "features.safetensors", framework="pt") as file:
        shard = ViewBatch(*(file.get_tensor(name) for name in tensors))
    return Views(
        frame=pd.DataFrame({"id": range(STORED)}),
        fingerprint="",
        encoder="",
        segmenter="",
        label_grid=32,
        classes=CLASSES,
        width=OUR_WIDTH,
        tokens_per_photo=TOKENS,
        shards=(shard,),
        shard_keys=(ShardKey(name="random", fingerprint="random", rows=range(STORED)),),
    )


def rates(precision: torch.dtype = PRECISION, side: int | None = None) -> dict[str, float]:
    """Peak rates of the device: matrix products (TFLOP/s) and copies (GB/s), which bound the time of a step."""
    side = side or (8192 if DEVICE.type == "cuda" else 2048)
    a, b = (torch.randn(side, side, device=DEVICE, dtype=precision) for _ in range(2))
    block = torch.empty(256 * 2**20, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(block)
    return {
        "tflop_per_s": 2 * side**3 / seconds(lambda: a @ b) / 1e12,
        "gb_per_s": 2 * len(block) / seconds(lambda: target.copy_(block)) / 1e9,
    }


def _degrees(count: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(count, 2, generator=random, dtype=torch.float64) * torch.tensor([170.0, 360.0]) - 85


def flops(work: Callable[[], object]) -> float:
    """The operations of `work` in matrix products, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _peak_gb() -> float:
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return getrusage(RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _measure(design: str) -> dict[str, float]:
    """The result of one design, measured in its own process so that the peak memory is its own."""
    done = subprocess.run([sys.executable, __file__, design], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    if len(sys.argv) > 1:
        torch.set_num_threads(2 if DEVICE.type == "cpu" else torch.get_num_threads())
        print(json.dumps({"published": published, "ours": ours, "rates": rates}[sys.argv[1]]()))
        return
    results = {design: _measure(design) for design in ("rates", "published", "ours")}
    rate, old, new = results["rates"], results["published"], results["ours"]
    # AdamW reads weights, gradients and two moments, and writes weights and moments: 28 bytes per parameter.
    moved_gb = new["gb_read"] + 28 * new["parameters"] / 1e9
    floor_s = max(new["tflop"] / rate["tflop_per_s"], moved_gb / rate["gb_per_s"])
    print(f"device: {torch.cuda.get_device_name() if DEVICE.type == 'cuda' else 'cpu, 2 threads'}, batch {BATCH}")
    print(f"matrix products {rate['tflop_per_s']:.3g} TFLOP/s, copies {rate['gb_per_s']:.3g} GB/s")
    for name, result in (("published", old), ("ours", new)):
        print(
            f"{name:9}  {result['step_s']:9.4f} s/step  {BATCH / result['step_s']:9.1f} photos/s  "
            f"{result['tflop']:8.4f} TFLOP/step  peak {result['peak_gb']:.2f} GB"
        )
    print(
        f"ours: lower bound {floor_s:.4f} s/step from operations and bytes; "
        f"measured / lower bound {new['step_s'] / floor_s:.1f}"
    )
    report = {
        "ratio": old["step_s"] / new["step_s"],
        "ratio_with_encoding_once": EPOCHS * old["step_s"] / (old["encoding_s"] + EPOCHS * new["step_s"]),
        "epochs": EPOCHS,
        "photos_per_s": BATCH / new["step_s"],
        "published_photos_per_s": BATCH / old["step_s"],
        "floor_s": floor_s,
        "device": DEVICE.type,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
