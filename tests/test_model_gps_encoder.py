"""The GPS encoder: projections, the antimeridian and the poles, GeoCLIP's weights."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_geoclip import make_geoclip

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import EARTH_RADIUS_KM, haversine_km
from dualgeo_core.model.fusion import Architecture, new_model
from dualgeo_core.model.gps_encoder import UNIT_KM, GpsEncoder, equal_earth, project
from dualgeo_core.settings import ModelSettings

GEOCLIP = ModelSettings(width=512, gps_hidden=1024, projection="equal_earth", fourier_sigmas=(1.0, 16.0, 256.0))


def _encoder(projection) -> GpsEncoder:
    torch.manual_seed(0)
    return GpsEncoder(width=16, hidden=32, projection=projection, sigmas=(1.0, 16.0, 256.0))


def test_equal_earth_keeps_areas() -> None:
    """The image of each cell of a degree grid has the cell's area on the sphere (Jacobian by finite differences)."""
    latitude = torch.linspace(-85, 85, 35, dtype=torch.float64)
    longitude = torch.linspace(-170, 170, 18, dtype=torch.float64)
    centres = torch.cartesian_prod(latitude, longitude)
    step = 1e-4
    east, north = torch.tensor([0.0, step], dtype=torch.float64), torch.tensor([step, 0.0], dtype=torch.float64)
    dx = (equal_earth(centres + east) - equal_earth(centres - east)) / (2 * np.radians(step))
    dy = (equal_earth(centres + north) - equal_earth(centres - north)) / (2 * np.radians(step))
    area = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]
    assert torch.allclose(area, torch.cos(torch.deg2rad(centres[:, 0])), atol=1e-6)


def test_unit_sphere_has_no_seam_and_one_pole() -> None:
    encoder = _encoder("unit_sphere")
    here, same = torch.tensor([[10.0, -180.0], [90.0, 0.0]]), torch.tensor([[10.0, 180.0], [90.0, 77.0]])
    assert torch.allclose(encoder(here), encoder(same), atol=2e-3)
    assert torch.dist(equal_earth(here), equal_earth(same)) > 5, "the map is torn there"


@given(st.floats(-89, 89), st.floats(-180, 180), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_unit_sphere_keeps_small_distances(latitude, longitude, north, east) -> None:
    points = torch.tensor([[latitude, longitude], [latitude + north, longitude + east]], dtype=torch.float64)
    chord_km = torch.dist(*project(points, "unit_sphere")).item() * UNIT_KM
    assert chord_km == pytest.approx(
        float(haversine_km(latitude, longitude, latitude + north, longitude + east)), rel=1e-4, abs=1e-6
    )
    assert pytest.approx(EARTH_RADIUS_KM * 180 / 66.50336) == UNIT_KM


def test_half_precision_training_does_not_blur_places() -> None:
    encoder = _encoder("unit_sphere")
    places = torch.tensor([[48.8584, 2.2945], [48.8606, 2.3376]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(places), encoder(places.double()))


@pytest.fixture
def geoclip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The location encoder's weights of a made-up package geoclip that is found but cannot be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return make_geoclip(tmp_path)


def _published_encoder(weights: dict[str, torch.Tensor], degrees_n2: torch.Tensor) -> torch.Tensor:
    """A plain reimplementation of GeoCLIP's location encoder."""
    points = equal_earth(degrees_n2) * 66.50336 / 180
    total = torch.zeros(len(degrees_n2), 512)
    for scale in range(3):
        phase = 2 * np.pi * points @ weights[f"LocEnc{scale}.capsule.0.b"].T
        x = torch.cat([phase.cos(), phase.sin()], dim=-1)
        for layer in (1, 3, 5):
            name = f"LocEnc{scale}.capsule.{layer}"
            x = torch.relu(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
        total += x @ weights[f"LocEnc{scale}.head.0.weight"].T + weights[f"LocEnc{scale}.head.0.bias"]
    return torch.nn.functional.normalize(total, dim=-1)


def _architecture(settings: ModelSettings) -> Architecture:
    return Architecture.of(settings=settings, variant="image_only", encoder_width=8, image_tokens=1, classes=2)


def test_geoclip_weights_give_geoclip_vectors_without_importing_it(geoclip) -> None:
    model = new_model(architecture=_architecture(GEOCLIP), gps_weights="geoclip", seed=0)
    places = torch.tensor([[48.85, 2.29], [-33.9, 151.2], [64.1, -21.9]])
    assert torch.allclose(model.gps_encoder(places), _published_encoder(geoclip, places), atol=1e-4)
    assert "geoclip" not in sys.modules


@pytest.mark.skipif("geoclip" in sys.modules, reason="geoclip is imported")
def test_missing_geoclip_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualgeo_core.model.gps_encoder.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps geoclip"):
        new_model(architecture=_architecture(GEOCLIP), gps_weights="geoclip", seed=0)
