"""Photos per second of each stage at the full architecture of the profile `paper`, beside what the device allows.

    python benchmarks/device.py [--gallery 200000] [--tiny]

Weights are random, which does not change the speed. Networks compute in bfloat16 (autocast), on the GPU if there is
one, otherwise on the CPU: SegFormer-B5 at 640 px, CLIP ViT-L/14 at 224 px, one training step of `joint`. Exact search
of a gallery of 768 dimensions is in float32. Photos are already decoded, and batches already in memory.

The floor of a stage is the larger of two times: its operations at the device's rate for a large product of matrices of
that precision, and the bytes that it has to move at the device's rate for a large copy. These bytes are the weights and
the batch, in training also the optimizer's state, in search the gallery. Where faiss has GPU support, the nearest 20
photos that the GPU finds are compared with those of the CPU. With --tiny, everything is small; that tests the
benchmark. The last line is JSON.
"""

import argparse
import datetime
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from train_step import CLASSES, DEVICE, TOKENS, OurStep, flops, rates, seconds

from dualgeo_core.retrieval.faiss_index import gpus, on_gpu
from dualgeo_core.settings import ModelSettings
from dualgeo_core.views.label_maps import most_likely
from dualgeo_core.views.segformer import DEFAULTS, SegFormerNetwork
from dualgeo_core.views.store import ViewBatch
from dualgeo_core.views.vision_models import ClipVision

NEAREST = 20
MASK_SIZE, LABEL_GRID = 128, 32
SEGFORMER_B5 = {
    "depths": [3, 6, 40, 3],
    "hidden_sizes": [64, 128, 320, 512],
    "decoder_hidden_size": 768,
    "id2label": dict.fromkeys(range(CLASSES)),
}
CLIP_VIT_L_14 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
}


class Sizes(NamedTuple):
    """Of networks and batches; batches are photos, or queries."""

    segformer: dict[str, Any]
    segmented_px: int
    clip: dict[str, Any]
    encoded_px: int
    model: ModelSettings
    segmented: int
    encoded: int
    trained: int
    searched: int


GPU = Sizes(
    SEGFORMER_B5, 640, CLIP_VIT_L_14, 224, ModelSettings(), segmented=32, encoded=256, trained=256, searched=1024
)
CPU = GPU._replace(segmented=2, encoded=8, searched=256)
TINY = Sizes(
    SEGFORMER_B5 | {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 80, 128], "decoder_hidden_size": 32},
    64,
    CLIP_VIT_L_14 | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    56,
    ModelSettings(width=32, heads=4, gps_hidden=32),
    segmented=2,
    encoded=2,
    trained=4,
    searched=8,
)


class Stage(NamedTuple):
    """One batch of a stage: the work, its photos, and the bytes that it cannot avoid to move."""

    name: str
    work: Callable[[], object]
    photos: int
    least_bytes: float
    precision: torch.dtype = torch.bfloat16
    operations: float | None = None  # counted if None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", type=int, default=200_000, help="photos that are searched")
    parser.add_argument("--tiny", action="store_true", help="small networks and batches")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    sizes = TINY if arguments.tiny else GPU if DEVICE.type == "cuda" else CPU
    side = 512 if arguments.tiny else None
    peaks = {precision: rates(precision, side=side) for precision in (torch.bfloat16, torch.float32)}
    for precision, peak in peaks.items():
        products, copies = peak["tflop_per_s"], peak["gb_per_s"]
        print(f"{device_name()}, {precision}: products {products:.3g} TFLOP/s, copies {copies:.3g} GB/s")
    result: dict[str, Any] = {"device": device_name(), "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    for stage in stages(sizes, gallery=2000 if arguments.tiny else arguments.gallery):
        rate, floor = measured(stage, peaks[stage.precision])
        print(f"{stage.name:13} {rate:9.1f} photos/s, floor {floor:9.1f} photos/s, {100 * rate / floor:5.1f} % of it")
        result[stage.name] = {"photos_per_s": rate, "floor_photos_per_s": floor, "share_of_floor": rate / floor}
    result["same_on_gpu"] = same_on_gpu(2000 if arguments.tiny else arguments.gallery)
    print(json.dumps(result))


def stages(sizes: Sizes, *, gallery: int) -> Iterator[Stage]:
    """All stages, each made when it is its turn: they need not fit into memory together."""
    yield segmentation(sizes)
    yield encoding(sizes)
    yield training(sizes)
    yield search(sizes, gallery=gallery)


def measured(stage: Stage, peak: dict[str, float]) -> tuple[float, float]:
    """The photos per second of a stage, and those of its floor."""
    taken = seconds(stage.work)
    operations = flops(stage.work) if stage.operations is None else stage.operations
    least = max(operations / 1e12 / peak["tflop_per_s"], stage.least_bytes / 1e9 / peak["gb_per_s"])
    return stage.photos / taken, stage.photos / least


def segmentation(sizes: Sizes) -> Stage:
    network = frozen(SegFormerNetwork(DEFAULTS | sizes.segformer))
    pixels = torch.randn(sizes.segmented, 3, sizes.segmented_px, sizes.segmented_px, device=DEVICE)
    return Stage(
        "segmentation",
        half_precision(lambda: most_likely(network(pixels), MASK_SIZE)),
        sizes.segmented,
        2 * parameters(network) + 2 * pixels.numel(),
    )


def encoding(sizes: Sizes) -> Stage:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes.clip, image_size=sizes.encoded_px))
    model.set_attn_implementation("sdpa")
    network = frozen(ClipVision(model, image_size=sizes.encoded_px))
    pixels = torch.randn(sizes.encoded, 3, sizes.encoded_px, sizes.encoded_px, device=DEVICE)
    return Stage(
        "encoding",
        half_precision(lambda: network(pixels)),
        sizes.encoded,
        2 * parameters(network) + 2 * pixels.numel(),
    )


def training(sizes: Sizes) -> Stage:
    width, photos = int(sizes.clip["projection_dim"]), sizes.trained
    step = OurStep(variant="joint", encoder_width=width, precision=torch.bfloat16, settings=sizes.model)
    batch = ViewBatch(
        torch.randn(photos, width).half(),
        torch.randn(photos, TOKENS, width).half(),
        torch.randint(0, CLASSES, (photos, LABEL_GRID, LABEL_GRID)).byte(),
    )
    read = sum(values.nbytes for values in batch)
    # AdamW reads weights, gradients and two moments, and writes weights and moments: 28 bytes per parameter.
    return Stage("training", lambda: step(batch), photos, 28 * parameters(step.model) + read)


def search(sizes: Sizes, *, gallery: int) -> Stage:
    vectors, queries = fabricated(gallery, sizes.searched)
    index: Any = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    if gpus():
        index = on_gpu(index)
    return Stage(
        "search",
        lambda: index.search(queries, NEAREST),
        len(queries),
        vectors.nbytes,
        precision=torch.float32,
        operations=2 * vectors.size * len(queries),
    )


def same_on_gpu(gallery: int) -> float | None:
    """The share of the nearest photos on the CPU that the GPU finds, the smaller of two indexes; None without one."""
    if not gpus():
        print("faiss has no GPU here: its answers are not compared")
        return None
    vectors, queries = fabricated(gallery, 1000)
    shares = []
    for specification in ("Flat", "IVF64,SQ8"):
        index = faiss.index_factory(vectors.shape[1], specification, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        on_cpu = index.search(queries, NEAREST)[1]
        there = on_gpu(index).search(queries, NEAREST)[1]
        shares.append(np.mean([np.isin(a, b).mean() for a, b in zip(on_cpu, there, strict=True)]))
    return float(min(shares))


def fabricated(gallery: int, queries: int, width: int = 768) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random unit vectors."""
    random = np.random.default_rng(0)
    gallery_nd, queries_qd = (random.standard_normal((n, width), dtype=np.float32) for n in (gallery, queries))
    for vectors in (gallery_nd, queries_qd):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return gallery_nd, queries_qd


def half_precision(work: Callable[[], object]) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            work()

    return run


def frozen(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False).to(DEVICE)


def parameters(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


def device_name() -> str:
    """The name of the GPU, or of the CPU with its number of cores."""
    if DEVICE.type == "cuda":
        return str(torch.cuda.get_device_name())
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
