"""SegFormer for inference. Source: Xie et al., arXiv 2105.15203.

The layers have the names and the arithmetic of transformers' SegFormer, whose checkpoints it reads. The import of that
package takes as long as everything else that one photo needs. Shapes: b photos, t tokens (h x w), c channels.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import one_line, read_json
from dualgeo_core.base.tensors import read_tensors
from dualgeo_core.settings import checkpoint

# What a checkpoint's configuration leaves out has these values (MiT-B0).
DEFAULTS = {
    "num_channels": 3,
    "depths": [2, 2, 2, 2],
    "sr_ratios": [8, 4, 2, 1],
    "hidden_sizes": [32, 64, 160, 256],
    "patch_sizes": [7, 3, 3, 3],
    "strides": [4, 2, 2, 2],
    "num_attention_heads": [1, 2, 5, 8],
    "mlp_ratios": [4, 4, 4, 4],
    "hidden_act": "gelu",
    "decoder_hidden_size": 256,
    "reshape_last_stage": True,
}
# Names in a checkpoint, and those of the layers here.
RENAMED = (
    (r"encoder\.patch_embeddings\.(\d+)\.", r"stages.\1.patch_embeddings."),
    (r"encoder\.block\.(\d+)\.", r"stages.\1.blocks."),
    (r"encoder\.layer_norm\.(\d+)", r"stages.\1.layer_norm"),
    (r"attention\.self\.query", "attention.q_proj"),
    (r"attention\.self\.key", "attention.k_proj"),
    (r"attention\.self\.value", "attention.v_proj"),
    (r"attention\.self\.sr", "attention.sequence_reduction.sequence_reduction"),
    (r"attention\.self\.layer_norm", "attention.sequence_reduction.layer_norm"),
    (r"attention\.output\.dense", "attention.o_proj"),
    (r"mlp\.dense1", "mlp.fc1"),
    (r"mlp\.dense2", "mlp.fc2"),
    ("layer_norm_1", "layernorm_before"),
    ("layer_norm_2", "layernorm_after"),
    (r"decode_head\.linear_c", "decode_head.linear_projections"),
)


class LoadedSegFormer(NamedTuple):
    """A network with its class names in the order of their ids, and the normalisation of pixels in 0..1."""

    network: nn.Module
    class_names: tuple[str, ...]
    mean: list[float]
    std: list[float]


def load_segformer(name: str, revision: str | None) -> LoadedSegFormer:
    """The checkpoint of a folder or of the model hub, in float32. Raises InputError if it cannot be loaded."""
    folder = Path(checkpoint(name))
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return _from_transformers(name, revision)
    remedy = "give a folder with config.json, preprocessor_config.json and model.safetensors"
    config = read_json(folder / "config.json")
    stored = read_tensors(weights, remedy=remedy)
    try:
        network = _network(config)
        network.load_state_dict({_layer_name(key): tensor.float() for key, tensor in stored.items()})
        class_names = tuple(label for _, label in sorted(config["id2label"].items(), key=lambda item: int(item[0])))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot load checkpoint {name!r} ({one_line(error, 300)}): {remedy}") from None
    processor = read_json(folder / "preprocessor_config.json")
    if not processor.get("do_normalize", True):
        return LoadedSegFormer(network, class_names, [0.0] * 3, [1.0] * 3)
    return LoadedSegFormer(network, class_names, list(processor["image_mean"]), list(processor["image_std"]))


def _from_transformers(name: str, revision: str | None) -> LoadedSegFormer:
    from transformers import SegformerForSemanticSegmentation

    from dualgeo_core.views.pretrained import load_model, load_normalisation

    model = load_model(SegformerForSemanticSegmentation, name, revision)
    mean, std = load_normalisation(name, revision)
    network = _network(model.config.to_dict())
    network.load_state_dict(model.state_dict())
    return LoadedSegFormer(network, tuple(label for _, label in sorted(model.config.id2label.items())), mean, std)


def _network(config: dict[str, Any]) -> nn.Module:
    """The network of a checkpoint's configuration. Raises ValueError for a variant that no published one uses."""
    config = DEFAULTS | config
    if config["hidden_act"] != "gelu" or not config["reshape_last_stage"]:
        raise ValueError("only hidden_act gelu and reshape_last_stage true are known")
    return SegFormerNetwork(config)


def _layer_name(key: str) -> str:
    for pattern, name in RENAMED:
        key = re.sub(pattern, name, key)
    return key


class SegFormerNetwork(nn.Module):
    """Class scores (b, classes, h/4, w/4) of normalised photos (b, 3, h, w)."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.segformer = nn.Module()
        self.segformer.stages = nn.ModuleList(_Stage(config, index) for index in range(len(config["depths"])))
        self.decode_head = _DecodeHead(config, classes=len(config["id2label"]))

    def forward(self, pixels_bchw: Tensor) -> Tensor:
        maps, seen = [], pixels_bchw
        for stage in self.segformer.stages:  # type: ignore[union-attr]  # a bare Module holds the checkpoint's name
            seen = stage(seen)
            maps.append(seen)
        scores: Tensor = self.decode_head(maps)
        return scores


class _Stage(nn.Module):
    """Overlapping patches, then transformer layers at that resolution."""

    def __init__(self, config: dict[str, Any], index: int) -> None:
        super().__init__()
        width = config["hidden_sizes"][index]
        before = config["num_channels"] if index == 0 else config["hidden_sizes"][index - 1]
        patch, stride = config["patch_sizes"][index], config["strides"][index]
        self.patch_embeddings = nn.Module()
        self.patch_embeddings.proj = nn.Conv2d(before, width, patch, stride, padding=patch // 2)
        self.patch_embeddings.layer_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Layer(config, index, width=width) for _ in range(config["depths"][index]))
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, maps_bchw: Tensor) -> Tensor:
        patches = self.patch_embeddings.proj(maps_bchw)  # type: ignore[operator]
        height, width = patches.shape[2:]
        tokens_btc = self.patch_embeddings.layer_norm(_as_tokens(patches))  # type: ignore[operator]
        for block in self.blocks:
            tokens_btc = block(tokens_btc, height, width)
        return _as_maps(self.layer_norm(tokens_btc), height, width).contiguous()


class _Layer(nn.Module):
    def __init__(self, config: dict[str, Any], index: int, *, width: int) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(width)
        self.attention = _Attention(
            width, heads=config["num_attention_heads"][index], reduction=config["sr_ratios"][index]
        )
        self.layernorm_after = nn.LayerNorm(width)
        self.mlp = _MixMlp(width, hidden=int(width * config["mlp_ratios"][index]))

    def forward(self, tokens_btc: Tensor, height: int, width: int) -> Tensor:
        tokens_btc = self.attention(self.layernorm_before(tokens_btc), height, width) + tokens_btc
        return self.mlp(self.layernorm_after(tokens_btc), height, width) + tokens_btc


class _Attention(nn.Module):
    """Self-attention whose keys and values are taken from a smaller map."""

    def __init__(self, width: int, *, heads: int, reduction: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.o_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.reduces = reduction > 1
        if self.reduces:
            self.sequence_reduction = nn.Module()
            self.sequence_reduction.sequence_reduction = nn.Conv2d(width, width, reduction, reduction)
            self.sequence_reduction.layer_norm = nn.LayerNorm(width)

    def forward(self, tokens_btc: Tensor, height: int, width: int) -> Tensor:
        seen_btc = tokens_btc
        if self.reduces:
            reduce = self.sequence_reduction
            smaller = reduce.sequence_reduction(_as_maps(tokens_btc, height, width))  # type: ignore[operator]
            seen_btc = reduce.layer_norm(_as_tokens(smaller))  # type: ignore[operator]
        query, key, value = (
            part.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for part in (self.q_proj(tokens_btc), self.k_proj(seen_btc), self.v_proj(seen_btc))
        )
        found = functional.scaled_dot_product_attention(query, key, value, scale=self.head_width**-0.5)
        attended: Tensor = self.o_proj(found.transpose(1, 2).flatten(2))
        return attended


class _MixMlp(nn.Module):
    """A feed-forward layer with a depthwise convolution, which stands for a position embedding."""

    def __init__(self, width: int, *, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.dwconv = nn.Module()
        self.dwconv.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens_btc: Tensor, height: int, width: int) -> Tensor:
        mixed = self.dwconv.dwconv(_as_maps(self.fc1(tokens_btc), height, width))  # type: ignore[operator]
        result: Tensor = self.fc2(functional.gelu(_as_tokens(mixed)))
        return result


class _Projection(nn.Module):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width_in, width)

    def forward(self, map_bchw: Tensor) -> Tensor:
        return _as_maps(self.proj(_as_tokens(map_bchw)), *map_bchw.shape[2:])


class _DecodeHead(nn.Module):
    """The maps of all stages at the size of the first, fused by a 1 x 1 convolution."""

    def __init__(self, config: dict[str, Any], *, classes: int) -> None:
        super().__init__()
        width, stages = config["decoder_hidden_size"], len(config["hidden_sizes"])
        self.linear_projections = nn.ModuleList(
            _Projection(stage_width, width) for stage_width in config["hidden_sizes"]
        )
        self.linear_fuse = nn.Conv2d(width * stages, width, 1, bias=False)
        self.batch_norm = nn.BatchNorm2d(width)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        size = maps[0].shape[2:]
        resized = [
            functional.interpolate(
                projection(stage_map),
                size=size,
                mode="bilinear",
                align_corners=False,
            )
            for stage_map, projection in zip(maps, self.linear_projections, strict=True)
        ]
        fused = self.batch_norm(self.linear_fuse(torch.cat(resized[::-1], dim=1)))
        scores: Tensor = self.classifier(functional.relu(fused))
        return scores


def _as_tokens(maps_bchw: Tensor) -> Tensor:
    return maps_bchw.flatten(2).transpose(1, 2)


def _as_maps(tokens_btc: Tensor, height: int, width: int) -> Tensor:
    return tokens_btc.transpose(1, 2).reshape(len(tokens_btc), -1, height, width)
