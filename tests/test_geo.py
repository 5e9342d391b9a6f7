"""Geometry of the sphere: known distances, and properties at the poles and across ±180°."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dualgeo_core.base.geo import (
    HALF_CIRCUMFERENCE_KM,
    coordinate_fault,
    coordinates,
    destination,
    haversine_km,
    spherical_mean,
    unit_vectors,
    wrap_longitude,
)

latitudes = st.floats(-90, 90, allow_subnormal=False)
longitudes = st.floats(-180, 180, allow_subnormal=False)
places = st.tuples(latitudes, longitudes)


@pytest.mark.parametrize(
    ("start", "end", "km"),
    [
        ((51.5074, -0.1278), (48.8566, 2.3522), 343.9),  # London to Paris
        ((40.7128, -74.0060), (-33.8688, 151.2093), 15988.0),  # New York to Sydney
        ((-17.7134, 178.065), (-13.7590, -172.1046), 1140.5),  # Fiji to Samoa, over the date line
        ((0, 0), (0, 180), math.pi * 6371.0088),
        ((90, 0), (-90, 77), math.pi * 6371.0088),
        ((0, 179.9), (0, -179.9), 0.2 * math.pi / 180 * 6371.0088),
        ((90, -120), (90, 60), 0.0),  # the pole is one point
    ],
)
def test_distances_are_the_known_ones(start: tuple[float, float], end: tuple[float, float], km: float) -> None:
    """The first three are Vincenty's on the WGS84 ellipsoid, from which the sphere is up to 0.2 % off here."""
    assert float(haversine_km(*start, *end)) == pytest.approx(km, rel=2e-3, abs=1e-6)


def test_distances_broadcast() -> None:
    table = haversine_km(np.zeros((3, 1)), np.zeros((3, 1)), np.zeros(4), np.arange(4.0))
    assert table.shape == (3, 4)
    assert np.allclose(table[0], np.arange(4) * math.pi / 180 * 6371.0088)


@given(places, places)
def test_distance_is_symmetric_and_at_most_half_way_round(a: tuple[float, float], b: tuple[float, float]) -> None:
    there, back = float(haversine_km(*a, *b)), float(haversine_km(*b, *a))
    assert there == pytest.approx(back, abs=1e-6)
    assert 0 <= there <= HALF_CIRCUMFERENCE_KM + 1e-6


@given(places, places, places)
def test_no_detour_is_shorter(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> None:
    assert float(haversine_km(*a, *c)) <= float(haversine_km(*a, *b)) + float(haversine_km(*b, *c)) + 1e-3


@given(places)
def test_unit_vectors_and_back(place: tuple[float, float]) -> None:
    vector = unit_vectors(*place)
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert float(haversine_km(*place, *coordinates(vector * 3.7))) == pytest.approx(0, abs=1e-4)


@given(places, st.floats(0, 360), st.floats(0, 20000))
@example((90.0, 0.0), 45.0, 100.0)
@example((-90.0, 10.0), 0.0, 2500.0)
@example((10.0, 179.999), 90.0, 25.0)
def test_a_destination_is_as_far_as_one_went(place: tuple[float, float], bearing: float, km: float) -> None:
    latitude, longitude = destination(*place, bearing, km)
    assert -90 <= latitude <= 90
    assert -180 <= longitude < 180
    assert float(haversine_km(*place, latitude, longitude)) == pytest.approx(km, abs=0.05)


def test_going_east_along_the_equator_crosses_the_date_line() -> None:
    latitude, longitude = destination(0.0, 179.0, 90.0, 2 * math.pi / 180 * 6371.0088)
    assert (float(latitude), float(longitude)) == (pytest.approx(0, abs=1e-9), pytest.approx(-179))


def test_the_mean_of_places_beside_the_date_line_lies_on_it() -> None:
    latitude, longitude = spherical_mean([-17.0, -17.0], [179.0, -179.0])
    assert latitude == pytest.approx(-17.0, abs=0.01)
    assert abs(longitude) == pytest.approx(180.0)


def test_the_mean_of_four_fiji_points_and_london_stays_in_the_pacific() -> None:
    """The mean of raw degrees lies in London's favour (fault 6 of the published code)."""
    latitude, longitude = spherical_mean([-17.7, -17.8, -17.6, -16.8, 51.5], [178.0, -179.9, 179.9, -179.9, -0.1])
    assert float(haversine_km(latitude, longitude, -17.7, 179.5)) < 3000
    assert float(haversine_km(latitude, longitude, 51.5, -0.1)) > 10000


def test_the_mean_around_a_pole_is_the_pole() -> None:
    latitude, _ = spherical_mean([80.0] * 4, [0.0, 90.0, 180.0, -90.0])
    assert latitude == pytest.approx(90)


def test_weights_pull_the_mean() -> None:
    assert spherical_mean([0, 0], [0, 90], weights=[1, 0]) == (pytest.approx(0), pytest.approx(0))
    assert spherical_mean([0, 0], [0, 90])[1] == pytest.approx(45)


def test_the_mean_of_antipodes_is_one_of_them() -> None:
    assert spherical_mean([10.0, -10.0], [20.0, -160.0]) == (pytest.approx(10.0), pytest.approx(20.0))


@given(st.lists(places, min_size=1, max_size=6), st.floats(-180, 180))
def test_the_mean_turns_with_the_earth(points: list[tuple[float, float]], turn: float) -> None:
    latitude, longitude = np.array(points).T
    centre = np.array(unit_vectors(latitude, longitude)).mean(axis=0)
    if np.linalg.norm(centre) < 1e-3:
        return
    mean, turned = spherical_mean(latitude, longitude), spherical_mean(latitude, longitude + turn)
    assert float(haversine_km(mean[0], mean[1] + turn, *turned)) < 0.01


@given(st.floats(-1e5, 1e5))
def test_a_wrapped_longitude_is_the_same_meridian(longitude: float) -> None:
    wrapped = float(wrap_longitude(longitude))
    assert -180 <= wrapped < 180
    turns = (longitude - wrapped) / 360
    assert turns == pytest.approx(round(turns), abs=1e-6)


@pytest.mark.parametrize(
    ("latitude", "longitude", "fault"),
    [
        (math.nan, 0.0, "no coordinates"),
        (0.0, math.inf, "no coordinates"),
        (90.1, 0.0, "out of range"),
        (0.0, -180.5, "out of range"),
        (0.0, 0.0, "0,0"),
        (-0.0, 0.0, "0,0"),
    ],
)
def test_positions_that_cannot_be_a_photos(latitude: float, longitude: float, fault: str) -> None:
    assert fault in (coordinate_fault(latitude, longitude) or "")


@given(places)
def test_all_other_positions_are_fine(place: tuple[float, float]) -> None:
    assert (coordinate_fault(*place) is None) == (place != (0.0, 0.0))
