"""The frozen image encoder. For each photo it returns one pooled vector and a small grid of patch tokens."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import fingerprint
from dualgeo_core.settings import EncoderSettings
from dualgeo_core.views.backbone import Backbone
from dualgeo_core.views.crop import square_crop

EFFICIENTNET = "efficientnet-lite0"
CODE_VERSION = 1  # increase it when the same settings and weights give different numbers


class Encoded(NamedTuple):
    """pooled_bd, and tokens_btd of token_grid x token_grid patches in row-major order (float32, CPU)."""

    pooled_bd: torch.Tensor
    tokens_btd: torch.Tensor


class Encoder:
    """A frozen backbone on a device, for photos of any size. A photo's output does not depend on its batch."""

    def __init__(self, backbone: Backbone, settings: EncoderSettings, device: torch.device | str) -> None:
        self.settings = settings
        self.device = torch.device(device)
        self.model_type, self.width = backbone.model_type, backbone.width
        self.fingerprint = fingerprint(
            "encoder",
            CODE_VERSION,
            settings.name,
            settings.revision,
            settings.image_size,
            settings.token_grid,
            [list(backbone.mean), list(backbone.std)],
            weights_digest(backbone),
        )
        self._backbone = backbone.eval().requires_grad_(False).to(self.device)
        self._backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self._mean = 255 * torch.tensor(backbone.mean, device=self.device).view(1, 3, 1, 1)
        self._std = 255 * torch.tensor(backbone.std, device=self.device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> Encoded:
        """One pooled vector and token_grid**2 tokens for each upright RGB photo."""
        return self.encode_squares(self._squares(images))

    @torch.inference_mode()
    def encode_squares(self, squares_bchw: torch.Tensor) -> Encoded:
        """As `encode`, for squares of image_size x image_size pixels with values from 0 to 255."""
        with self._autocast():
            pooled_bd, patches_bdhw = self._backbone(self._normalised(squares_bchw))
        if min(patches_bdhw.shape[2:]) < self.settings.token_grid:
            side = min(patches_bdhw.shape[2:])
            raise InputError(
                f"encoder {self.settings.name} has {side} x {side} patches at {self.settings.image_size} px: "
                f"set encoder.token_grid to at most {side}, or a larger encoder.image_size"
            )
        tokens_bdhw = functional.adaptive_avg_pool2d(patches_bdhw.float(), self.settings.token_grid)
        return Encoded(pooled_bd.float().cpu(), tokens_bdhw.flatten(2).transpose(1, 2).contiguous().cpu())

    @torch.inference_mode()
    def mid_level(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Middle-layer features_bchw (float32, CPU). The stride is about 16 pixels, for a ViT its patch size."""
        with self._autocast():
            return self._backbone.mid_level(self._normalised(self._squares(images))).float().cpu()

    def _squares(self, images: Sequence[Image.Image]) -> torch.Tensor:
        squares_bhwc = np.stack([np.asarray(square_crop(image, self.settings.image_size)) for image in images])
        return torch.from_numpy(squares_bhwc).permute(0, 3, 1, 2)  # these strides are channels_last

    def _normalised(self, squares_bchw: torch.Tensor) -> torch.Tensor:
        return (squares_bchw.to(self.device).float() - self._mean) / self._std

    def _autocast(self) -> torch.autocast:
        # Outputs are stored in half precision anyway, and half precision is many times faster on a GPU.
        return torch.autocast(self.device.type, dtype=torch.float16, enabled=self.device.type == "cuda")


def load_encoder(settings: EncoderSettings, device: torch.device | str = "cpu") -> Encoder:
    """The encoder of a profile. Raises InputError if its weights are missing or do not fit the settings."""
    if settings.name == EFFICIENTNET:
        from dualgeo_core.views.efficientnet import EfficientNetLite0

        return Encoder(EfficientNetLite0(image_size=settings.image_size), settings, device)
    from dualgeo_core.views.vision_models import load_vision_model

    return Encoder(load_vision_model(settings), settings, device)


def weights_digest(model: nn.Module) -> str:
    """16 hex digits of the name, type, shape and bytes of all weights. They do not depend on the file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
