"""Latency, throughput and memory of `POST /locate`; cold and warm `dualgeo locate`; albums per 1,000 photos.

Run: python benchmarks/serve.py --photos FOLDER [--profile demo]. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import yaml

from dualgeo_core import Locator
from dualgeo_core.answering.photo_inputs import DecodedWhenTaken
from dualgeo_core.photos.listing import list_folder
from dualgeo_core.settings import load_settings

CLIENTS = (1, 8, 32)
PHOTOS_PER_LEVEL = 320
PORT = 8765
COLD_RUNS = 3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--photos", type=Path, required=True)
    options.add_argument("--profile", default="demo")
    asked = options.parse_args()
    paths = [asked.photos / name for name in list_folder(asked.photos).photos]
    results: dict[str, Any] = {"cold_locate_s": cold_locate(paths[0], profile=asked.profile)}
    print(f"cold locate, one photo: {results['cold_locate_s']:.2f} s")
    results |= warm(paths, profile=asked.profile)
    with service(asked.profile) as (address, process):
        results["requests"] = [level(address, process, paths, clients=clients) for clients in CLIENTS]
    print(json.dumps(results))


def cold_locate(photo: Path, *, profile: str) -> float:
    """The median seconds of the command, in processes of their own, after one that compiles the bytecode."""
    command = [sys.executable, "-m", "dualgeo_core.cli", "locate", "--profile", profile, str(photo)]
    seconds = []
    for _ in range(COLD_RUNS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:]))


def warm(paths: list[Path], *, profile: str) -> dict[str, float]:
    """Milliseconds per photo one by one and 100 at a time, and seconds per 1,000 photos of an album."""
    locator = Locator.from_profile(profile)
    hundred = (paths * (100 // len(paths) + 1))[:100]
    locator.locate(hundred[:8])
    single, _ = _timed(lambda: [locator.locate(path) for path in hundred])
    together, _ = _timed(lambda: locator.locate(hundred))
    thousand = (paths * (1000 // len(paths) + 1))[:1000]
    album, _ = _timed(
        lambda: locator.locate_album(
            names=[str(path) for path in thousand],
            images=DecodedWhenTaken(thousand),
            taken=[None] * 1000,
            positions=[None] * 1000,
        )
    )
    found = {"warm_ms": 10 * single, "warm_100_ms": 10 * together, "album_s_per_1000": album}
    print(f"warm: {found['warm_ms']:.1f} ms one by one, {found['warm_100_ms']:.1f} ms per photo of 100 together")
    print(f"album: {album:.1f} s per 1,000 photos")
    return found


def _timed(work: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


@contextmanager
def service(profile: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address and process of a service whose rate is not limited."""
    settings = load_settings(profile)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{profile}.yaml"
        content = settings.profile.model_dump(mode="json")
        content["serving"] |= {"requests_per_minute": 1e6, "request_burst": 1_000_000}
        file.write_text(yaml.safe_dump(content))
        command = (sys.executable, "-m", "dualgeo_core.cli", "serve", "--profile", str(file), f"--port={PORT}")
        server = subprocess.Popen([*command, f"--locator={settings.locator}"])
        address = f"http://127.0.0.1:{PORT}"
        try:
            while not _is_ready(address):
                time.sleep(0.2)
            yield address, psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait()


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def level(address: str, process: psutil.Process, paths: list[Path], *, clients: int) -> dict[str, float]:
    """Latency percentiles, throughput and memory with so many clients, each sending one photo after the other."""
    data = [path.read_bytes() for path in paths]

    def ask(number: int) -> float:
        started = time.perf_counter()
        reply = httpx.post(f"{address}/locate", files={"photos": data[number % len(data)]}, timeout=120)
        reply.raise_for_status()
        return time.perf_counter() - started

    with ThreadPoolExecutor(clients) as pool:
        seconds, latencies = _timed(lambda: list(pool.map(ask, range(PHOTOS_PER_LEVEL))))
    p50, p95 = np.percentile(np.array(latencies) * 1000, [50, 95])
    found = {
        "clients": clients,
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "photos_per_s": round(PHOTOS_PER_LEVEL / seconds, 1),
        "memory_mb": round(process.memory_info().rss / 2**20),
    }
    print(found)
    return found


if __name__ == "__main__":
    main()
