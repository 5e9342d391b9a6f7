"""Where tensors are computed."""

import torch


def choose_device(name: str | None, *, threads: int) -> torch.device:
    """The torch device of this name, or for None the GPU where there is one. Sets the number of CPU threads."""
    torch.set_num_threads(threads)
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
