"""GeoCLIP's published heads: vectors of photos and of places in one space (Vivanco et al. 2023, arXiv 2309.16020).

Shapes: b photos, n places, d = 512.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualgeo_core.model.gps_encoder import GpsEncoder, published
from dualgeo_core.settings.representation import GEOCLIP

PHOTO_WIDTH = 768  # of CLIP ViT-L/14's projected vectors
PLACES_AT_ONCE = 4096


class GeoClip(nn.Module):
    """The image head over CLIP's pooled vectors, the location encoder, and the scale of their cosine."""

    def __init__(self) -> None:
        super().__init__()
        width = GEOCLIP["width"]
        self.image_head = nn.Sequential(nn.Linear(PHOTO_WIDTH, PHOTO_WIDTH), nn.ReLU(), nn.Linear(PHOTO_WIDTH, width))
        self.location_encoder = GpsEncoder(
            width=width,
            hidden=GEOCLIP["gps_hidden"],
            projection=GEOCLIP["projection"],
            sigmas=GEOCLIP["fourier_sigmas"],
        )
        self.register_buffer("log_scale", torch.zeros(()))
        self.log_scale: Tensor

    @property
    def scale(self) -> float:
        """What a cosine is multiplied by to give a logit of the softmax over places."""
        return float(self.log_scale.exp())

    @torch.inference_mode()
    def photos(self, pooled_bp: Tensor) -> Tensor:
        """Unit vectors (b, d) of photos, from CLIP's projected vectors."""
        return functional.normalize(self.image_head(pooled_bp.to(self.log_scale.device)), dim=-1)

    @torch.inference_mode()
    def places(self, degrees_n2: Tensor) -> Tensor:
        """Unit vectors (n, d) of places, from latitudes and longitudes in degrees."""
        parts = degrees_n2.to(self.log_scale.device).split(PLACES_AT_ONCE)
        return torch.cat([self.location_encoder(part) for part in parts])


def load_geoclip() -> GeoClip:
    """The published heads. Raises InputError if the package geoclip is not installed."""
    model = GeoClip()
    model.image_head.load_state_dict(published("image_encoder_mlp_weights.pth"))
    model.location_encoder.load_geoclip()
    model.log_scale.copy_(published("logit_scale_weights.pth"))
    return model.eval().requires_grad_(False)
