"""The GPS encoder: random Fourier features of a projected position at several scales, with one MLP per scale.

Shapes: n positions, p projected coordinates, f frequencies. All of it runs in float32 at every training precision,
because half precision cannot resolve a street.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import EARTH_RADIUS_KM

Projection = Literal["equal_earth", "unit_sphere"]
UNITS = 66.50336  # GeoCLIP's units of length in 180 Earth radii
UNIT_KM = 180 / UNITS * EARTH_RADIUS_KM  # about 17,244 km, for both projections


def project(degrees_n2: Tensor, projection: Projection) -> Tensor:
    """Projected latitudes and longitudes (degrees) in units of UNIT_KM: (n, 2), or (n, 3) for `unit_sphere`."""
    if projection == "unit_sphere":
        return sphere_points(degrees_n2) * (EARTH_RADIUS_KM / UNIT_KM)
    return equal_earth(degrees_n2) * UNITS / 180  # rounded as in GeoCLIP: its phases are thousands of radians


def sphere_points(degrees_n2: Tensor) -> Tensor:
    """Points (n, 3) on the unit sphere, from latitudes and longitudes in degrees."""
    latitude, longitude = torch.deg2rad(degrees_n2).unbind(-1)
    return torch.stack(
        [torch.cos(latitude) * torch.cos(longitude), torch.cos(latitude) * torch.sin(longitude), torch.sin(latitude)],
        dim=-1,
    )


def equal_earth(degrees_n2: Tensor) -> Tensor:
    """Equal Earth coordinates (n, 2) on the unit sphere (Savric, Patterson and Jenny 2018, equations 1-3)."""
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    latitude, longitude = torch.deg2rad(degrees_n2).unbind(-1)
    theta = torch.asin(3**0.5 / 2 * torch.sin(latitude))
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * 3**0.5 * longitude * torch.cos(theta) / (3 * slope)
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return torch.stack([x, y], dim=-1)


class FourierFeatures(nn.Module):
    """cos and sin at random frequencies with standard deviation `sigma` per UNIT_KM (Tancik et al. 2020)."""

    frequencies_fp: Tensor

    def __init__(self, *, dimensions: int, sigma: float, features: int) -> None:
        super().__init__()
        self.register_buffer("frequencies_fp", torch.randn(features, dimensions) * sigma)

    def forward(self, points_np: Tensor) -> Tensor:
        phase = 2 * torch.pi * points_np @ self.frequencies_fp.T
        return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)


class GpsEncoder(nn.Module):
    """Unit vectors of positions in the joint space: the sum of one MLP per scale (Vivanco et al. 2023, section 3.2)."""

    def __init__(
        self, *, width: int, hidden: int, projection: Projection, sigmas: tuple[float, ...], features: int = 256
    ) -> None:
        super().__init__()
        self.projection: Projection = projection
        dimensions = 2 if projection == "equal_earth" else 3
        self.scales = nn.ModuleList(
            nn.Sequential(
                FourierFeatures(dimensions=dimensions, sigma=sigma, features=features),
                nn.Linear(2 * features, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, width),
            )
            for sigma in sigmas
        )

    def forward(self, degrees_n2: Tensor) -> Tensor:
        with torch.autocast(degrees_n2.device.type, enabled=False):
            points = project(degrees_n2.float(), self.projection)
            total = torch.stack([scale(points) for scale in self.scales]).sum(dim=0)
            return functional.normalize(total, dim=-1)

    def load_geoclip(self) -> None:
        """Loads GeoCLIP's published location weights. Raises InputError if the package geoclip is not installed."""
        weights = published("location_encoder_weights.pth")
        self.load_state_dict({_our_name(name): tensor for name, tensor in weights.items()})


def published(file: str) -> Any:
    """The content of a file of weights in the package geoclip. Raises InputError if it is not installed.

    It is read from the package's folder, because importing the package would also import torchvision.
    """
    package = find_spec("geoclip")
    if package is None or not package.submodule_search_locations:
        raise InputError(
            "the package geoclip (GeoCLIP's weights, 40 MB, MIT licence) is not installed; run "
            "`pip install --no-deps geoclip`"
        )
    path = Path(package.submodule_search_locations[0]) / "model" / "weights" / file
    return torch.load(path, map_location="cpu", weights_only=True)


def _our_name(geoclip_name: str) -> str:
    """The parameter's name here: `LocEnc1.capsule.3.weight` is `scales.1.3.weight`; `head.0` is layer 7."""
    scale, part, layer, kind = geoclip_name.removeprefix("LocEnc").split(".")
    if kind == "b":
        return f"scales.{scale}.0.frequencies_fp"
    return f"scales.{scale}.{layer if part == 'capsule' else 7}.{kind}"
