"""The choice of the device that computes."""

import torch


def choose_device(name: str | None, *, threads: int) -> torch.device:
    """The torch device of this name; None selects the GPU if there is one, otherwise the CPU.

    Also sets the number of CPU threads.
    """
    torch.set_num_threads(threads)
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
