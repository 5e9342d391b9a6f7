"""Speed of the posterior compared with scikit-learn's DBSCAN per query, and growth of its memory.

    python benchmarks/refine_speed.py [CANDIDATES.csv]

Without a file it generates 1,441 queries of 20 candidates. It runs on one thread. The last line is JSON: the `ratio`
of the rates, both rates, and the growth of peak memory from 100,000 to 1,000,000 queries.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
from sklearn.cluster import DBSCAN

from dualgeo_core.base.geo import EARTH_RADIUS_KM, coordinates, unit_vectors
from dualgeo_core.refine.density import shipped_density
from dualgeo_core.refine.evidence import Evidence, gather_evidence
from dualgeo_core.refine.posterior import posterior
from dualgeo_core.refine.refiner import shipped_refiner
from dualgeo_core.refine.tables import read_candidates

ROUNDS = 7
MANY = 1_000_000


def main() -> None:
    candidates = read_candidates(Path(sys.argv[1])) if len(sys.argv) > 1 else random_candidates()
    evidence = gather_evidence(candidates=candidates, answers=None)
    refiner, density = shipped_refiner(), shipped_density()
    posterior(evidence, refiner=refiner, density=density)  # builds the lookup tables
    ours, theirs = [], []
    for _ in range(ROUNDS):  # alternating, so that other load slows both
        ours.append(timed(lambda: posterior(evidence, refiner=refiner, density=density)))
        theirs.append(timed(lambda: dbscan_each(evidence)))
    rate, dbscan_rate = len(evidence) / min(ours), len(evidence) / min(theirs)
    print(f"posterior: {rate:,.0f} queries/s   DBSCAN per query: {dbscan_rate:,.0f} queries/s   (best of {ROUNDS})")
    tenth = after_queries(evidence, MANY // 10)
    whole = after_queries(evidence, MANY)
    print(f"peak memory after {MANY // 10:,} queries: {tenth:.0f} MB, after {MANY:,}: {whole:.0f} MB")
    print(
        json.dumps(
            {
                "ratio": rate / dbscan_rate,
                "posterior_per_s": rate,
                "dbscan_per_s": dbscan_rate,
                "memory_growth_mb": whole - tenth,
            }
        )
    )


def dbscan_each(evidence: Evidence) -> None:
    """Runs the paper's re-ranking step: one DBSCAN per query, 50 km by haversine."""
    points = np.radians(np.stack([evidence.latitude, evidence.longitude], axis=-1))
    for query in points:
        DBSCAN(eps=50 / EARTH_RADIUS_KM, min_samples=2, metric="haversine", algorithm="ball_tree").fit_predict(query)


def after_queries(evidence: Evidence, count: int) -> float:
    """Peak memory of the process in MB after `count` queries."""
    refiner, density = shipped_refiner(), shipped_density()
    done = 0
    while done < count:
        posterior(evidence.take(slice(0, count - done)), refiner=refiner, density=density)
        done += min(len(evidence), count - done)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def random_candidates(queries: int = 1441, each: int = 20) -> pd.DataFrame:
    """Random candidates: those of a query are around up to six places."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(queries, 6, 3))
    chosen = centres[np.arange(queries)[:, None], random.integers(0, 6, (queries, each))]
    latitude, longitude = coordinates(chosen / np.linalg.norm(chosen, axis=-1, keepdims=True))
    jittered = unit_vectors(latitude, longitude) + random.normal(scale=10 / EARTH_RADIUS_KM, size=(queries, each, 3))
    latitude, longitude = coordinates(jittered)
    return pd.DataFrame(
        {
            "id": np.repeat([f"query {number}" for number in range(queries)], each),
            "kind": "similar",
            "rank": np.tile(np.arange(1, each + 1), queries),
            "latitude": latitude.ravel(),
            "longitude": longitude.ravel(),
        }
    )


if __name__ == "__main__":
    main()
