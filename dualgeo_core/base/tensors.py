"""safetensors files: written through plain files, so that a full disk is an OSError, and read memory-mapped."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from dualgeo_core.base.files import reading


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes one safetensors file."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    path.write_bytes(save(contiguous, metadata=dict(metadata) if metadata else None))


def read_tensors(path: Path, *, remedy: str) -> dict[str, Tensor]:
    """The file's tensors, memory-mapped: rows are read when they are used.

    Raises InputError, with the `remedy`, if the file is missing or damaged.
    """
    with reading(path, remedy=remedy), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict


def read_metadata(path: Path, *, remedy: str) -> dict[str, str]:
    """The text that `write_tensors` put in the file's header; raises InputError as `read_tensors`."""
    with reading(path, remedy=remedy), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
