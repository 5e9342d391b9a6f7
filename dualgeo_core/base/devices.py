"""The choice of the device that computes."""

import torch

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import one_line


def choose_device(name: str | None, *, threads: int) -> torch.device:
    """The torch device of this name; None selects the GPU if there is one, otherwise the CPU.

    Also sets the number of CPU threads. Raises InputError if this machine does not have the device.
    """
    torch.set_num_threads(threads)
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:  # a build of torch without CUDA raises AssertionError
        raise InputError(
            f"device {name} is not available here ({one_line(error)}); set device to cpu in the profile, or remove it"
        ) from None
    return torch.device(name)
