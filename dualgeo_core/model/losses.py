"""Symmetric contrastive loss of the views against places, over all processes, with queued GPS negatives.

Shapes: b photos of this process, a = b x processes, q queued places, d joint width.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional

from dualgeo_core.base.geo import EARTH_RADIUS_KM
from dualgeo_core.model.fusion import ViewEmbeddings
from dualgeo_core.model.gps_encoder import sphere_points

MIN_SCALE, MAX_SCALE = 1.0, 100.0  # bounds of 1/temperature, as in CLIP (Radford et al. 2021, section 2.5)


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(local_bd: Tensor) -> Tensor:
    """The rows of all processes in rank order, differentiable; every process must pass the same number of rows."""
    if processes() == 1:
        return local_bd
    return torch.cat(all_gather(local_bd.contiguous()))


def soft_targets(own_bx: Tensor, all_ax: Tensor, soft_target_km: float) -> Tensor:
    """Target weights (b, a) of `a` places for each photo; each row sums to one.

    The weight is a Gaussian of the chord between the unit vectors. With 0 km only identical coordinates count.
    """
    chord_km = torch.cdist(own_bx, all_ax, compute_mode="donot_use_mm_for_euclid_dist") * EARTH_RADIUS_KM
    if soft_target_km > 0:
        kernel = torch.exp(-0.5 * (chord_km / soft_target_km) ** 2)
    else:
        kernel = (chord_km == 0).to(chord_km.dtype)
    return kernel / kernel.sum(dim=1, keepdim=True)


class AlignmentLoss(nn.Module):
    """InfoNCE between each view and the GPS encoder, in both directions, with one learned temperature per view.

    Each process scores its own photos against the places of all processes, and its own places against the photos of
    all processes. The average of the gradients equals the gradient of one process with all photos.
    """

    queue_gps_qd: Tensor
    queue_points_q3: Tensor

    def __init__(self, *, width: int, mask_weight: float, queue: int, soft_target_km: float) -> None:
        super().__init__()
        self.mask_weight = mask_weight
        self.soft_target_km = soft_target_km
        self.queue = queue
        self.register_buffer("queue_gps_qd", torch.empty(0, width))
        self.register_buffer("queue_points_q3", torch.empty(0, 3))

    def forward(
        self, views: ViewEmbeddings, gps_bd: Tensor, degrees_b2: Tensor, log_scale: nn.ParameterDict
    ) -> dict[str, Tensor]:
        """`loss` and the loss of each view. In training mode the places are then added to the queue."""
        points_b3 = sphere_points(degrees_b2.double()).float()
        gps_ad, points_a3 = gather(gps_bd), gather(points_b3)
        places_nd = torch.cat([gps_ad, self.queue_gps_qd])
        to_places = soft_targets(points_b3, torch.cat([points_a3, self.queue_points_q3]), self.soft_target_km)
        to_photos = soft_targets(points_b3, points_a3, self.soft_target_km)
        losses = {}
        for view, view_bd in views._asdict().items():
            if view_bd is None:
                continue
            scale = log_scale[view].exp()
            photo_to_place = scale * view_bd @ places_nd.T
            place_to_photo = scale * gps_bd @ gather(view_bd).T
            losses[f"{view}_loss"] = 0.5 * (
                functional.cross_entropy(photo_to_place, to_places)
                + functional.cross_entropy(place_to_photo, to_photos)
            )
        if self.training and self.queue:
            self.queue_gps_qd = torch.cat([gps_ad.detach(), self.queue_gps_qd])[: self.queue]
            self.queue_points_q3 = torch.cat([points_a3, self.queue_points_q3])[: self.queue]
        weights = {"mask_loss": self.mask_weight} if len(losses) > 1 else {}
        total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
        return {"loss": total, **losses}


@torch.no_grad()
def clamp_temperatures(log_scale: nn.ParameterDict) -> None:
    """Clamps 1/temperature to its bounds; call it after every optimizer step."""
    for scale in log_scale.values():
        scale.clamp_(math.log(MIN_SCALE), math.log(MAX_SCALE))
