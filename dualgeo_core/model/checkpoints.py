"""Checkpoints of an unfinished run: one safetensors file of weights, optimizer state and GPS queue, written atomically.

Random numbers and data order are functions of (seed, step, rank), so a checkpoint stores the step and no random state.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_file
from dualgeo_core.base.tensors import read_metadata, read_tensors, write_tensors
from dualgeo_core.model.recipe import first_difference


@dataclass
class Position:
    """The progress of a run and its best epoch so far."""

    step: int = 0
    best_step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    epochs_without_gain: int = 0
    scaler: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: Path, *, recipe: dict[str, Any], position: Position, module: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Writes the state after `position.step` steps to `path`, atomically."""
    tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    metadata = {"recipe": json.dumps(recipe), "position": json.dumps(asdict(position))}
    with atomic_file(path) as temporary:
        write_tensors(temporary, tensors, metadata=metadata)


def load_checkpoint(
    path: Path, *, recipe: dict[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer
) -> Position:
    """Restores module and optimizer in place and returns the position.

    Raises InputError if the checkpoint was written with other settings; the message names the first difference.
    """
    difference = other_settings(path, recipe=recipe)
    if difference:
        raise InputError(
            f"{path} is the checkpoint of a run with other settings: {difference}; "
            f"use those settings to resume it, or delete {path.parent} to start over"
        )
    remedy = f"delete {path.parent} to train from the start"
    position = Position(**json.loads(read_metadata(path, remedy=remedy)["position"]))
    tensors = read_tensors(path, remedy=remedy)
    _load_module(module, {name.removeprefix("module."): t for name, t in tensors.items() if name[:7] == "module."})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return position


def other_settings(path: Path, *, recipe: dict[str, Any]) -> str | None:
    """The first setting in which the checkpoint differs from `recipe`; None if all agree or there is no checkpoint."""
    if not path.exists():
        return None
    metadata = read_metadata(path, remedy=f"delete {path.parent} to train from the start")
    return first_difference(json.loads(metadata["recipe"]), recipe)


def _load_module(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Loads `tensors`; a buffer of variable length (the GPS queue) takes the stored length."""
    buffers = dict(module.named_buffers())
    for name, tensor in tensors.items():
        if name in buffers and buffers[name].shape != tensor.shape:
            owner, _, buffer = name.rpartition(".")
            setattr(module.get_submodule(owner), buffer, tensor.to(buffers[name].device))
    module.load_state_dict(tensors)
