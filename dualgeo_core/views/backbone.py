"""The interface of image encoders: normalised pixels in, a pooled vector and patch features out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn


class Backbone(nn.Module, ABC):
    """An image encoder of one family. Subclasses define how pixels are normalised and what the outputs mean."""

    model_type: str  # the architecture, by its name in transformers if it is one of its models
    width: int
    mean: Sequence[float]
    std: Sequence[float]

    @abstractmethod
    def forward(self, pixels_bchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """pooled_bd and the last layer's patch grid patches_bdhw, where d is `width`."""

    @abstractmethod
    def mid_level(self, pixels_bchw: torch.Tensor) -> torch.Tensor:
        """The patch grid features_bchw of a middle layer, which describes textures and parts rather than scenes."""
