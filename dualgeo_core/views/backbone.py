"""What every family of image encoders provides: normalised pixels in, a pooled vector and patch features out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn


class Backbone(nn.Module, ABC):
    """What each family of encoders settles for itself: how pixels are normalised, what its outputs mean."""

    width: int
    mean: Sequence[float]
    std: Sequence[float]

    @abstractmethod
    def forward(self, pixels_bchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """pooled_bd and the last layer's patch grid patches_bdhw, both of `width`, of normalised pixels."""

    @abstractmethod
    def mid_level(self, pixels_bchw: torch.Tensor) -> torch.Tensor:
        """A middle layer's patch grid, features_bchw: textures and parts rather than whole scenes."""
