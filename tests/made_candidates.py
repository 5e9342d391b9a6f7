"""Random candidates, answers and true places that resemble the output of a retriever and a multimodal model."""

import numpy as np
import pandas as pd

from dualgeo_core.base.geo import coordinates, destination


def made_benchmark(queries: int = 160, photographers: int = 16, each: int = 10, seed: int = 0, places=None):
    """(candidates, answers, truth): a third of the candidates gather within 3 km of the place, answers within 10.

    `places` are latitudes and longitudes of the queries; random where not given. Query i is by photographer
    i % photographers.
    """
    random = np.random.default_rng(seed)
    latitude, longitude = coordinates(random.normal(size=(queries, 3))) if places is None else places
    ids = [f"q{number:03d}.jpg" for number in range(queries)]
    truth = pd.DataFrame(
        {
            "id": ids,
            "latitude": latitude,
            "longitude": longitude,
            "author": [f"a{number % photographers}" for number in range(queries)],
        }
    )
    near = random.random((queries, each)) < np.linspace(0.6, 0.2, each)
    stray = coordinates(random.normal(size=(queries, each, 3)))
    bearing, distance = random.uniform(0, 360, (queries, each)), random.exponential(1.5, (queries, each))
    by_place = destination(latitude[:, None], longitude[:, None], bearing, distance)
    found = [np.where(near, by_place[axis], stray[axis]).ravel() for axis in (0, 1)]
    candidates = pd.DataFrame(
        {
            "id": np.repeat(ids, each),
            "kind": "similar",
            "rank": np.tile(np.arange(1, each + 1), queries),
            "gallery_row": np.arange(queries * each),
            "latitude": found[0],
            "longitude": found[1],
        }
    )
    right = random.random(queries) < 0.6
    told = destination(latitude, longitude, random.uniform(0, 360, queries), np.where(right, 5.0, 4000.0))
    answers = pd.DataFrame(
        {"id": ids, "model": "made", "latitude": told[0], "longitude": told[1], "location": "Old Bridge, Somewhere"}
    )
    return candidates, answers, truth


def made_albums(queries: int = 160, photographers: int = 16, each: int = 10, seed: int = 0):
    """(candidates, answers, truth, albums): each photographer makes three trips and stays within 10 km on each.

    Photos of one trip are about 1e4 apart in their order, trips 1e8.
    """
    random = np.random.default_rng(seed + 1000)
    photographer, shot = np.arange(queries) % photographers, np.arange(queries) // photographers
    trip = 3 * shot // (queries // photographers + 1)
    start = coordinates(random.normal(size=(photographers, 3, 3)))
    places = destination(
        start[0][photographer, trip],
        start[1][photographer, trip],
        random.uniform(0, 360, queries),
        random.uniform(0, 10, queries),
    )
    candidates, answers, truth = made_benchmark(queries, photographers, each, seed, places)
    order = 1e8 * (1 + trip) + 1e4 * shot + random.uniform(0, 5e3, queries)
    albums = pd.DataFrame({"id": truth["id"], "album": truth["author"], "order": order.round()})
    return candidates, answers, truth, albums
