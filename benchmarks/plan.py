"""Compares `dualgeo plan` with a measured run of the same steps on a gallery many times the calibration's size.

    python benchmarks/plan.py [--profile demo] [--photos 384] [--times 20]

The last line is JSON: `seconds_predicted`, `seconds_measured`, `total_ratio` (measured / predicted), and per asset both
times. Training runs all epochs, which the plan assumes. Nothing else should run on the machine.
"""

import argparse
import json
import tempfile
from pathlib import Path

from dualgeo_core.base.progress import spoken
from dualgeo_core.planning.calibration import calibrate, calibration_workspace
from dualgeo_core.planning.calibration_photos import calibration_images
from dualgeo_core.planning.plan import plan
from dualgeo_core.planning.steps import STEPS, Measured, run_assets
from dualgeo_core.planning.work import Size
from dualgeo_core.settings import load_settings

QUERIES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--photos", type=int, default=384, help="photos of the calibration")
    parser.add_argument("--times", type=int, default=20, help="size of the measured run, in calibrations")
    arguments = parser.parse_args()
    settings = load_settings(arguments.profile)
    profile, size = settings.profile, Size(photos=arguments.photos * arguments.times, queries=QUERIES)
    say = spoken(print)
    rates = calibrate(settings, photos=arguments.photos, progress=say)
    print(f"calibration: {rates.seconds:.0f} s")
    predicted = {row.asset: row for row in plan(profile, rates, size).assets}
    with tempfile.TemporaryDirectory() as temporary:
        images = calibration_images(settings, Path(temporary), photos=2000)
        training = profile.training.model_copy(update={"patience": profile.training.epochs})
        patient = profile.model_copy(update={"training": training})
        workspace, ingest = calibration_workspace(
            patient, Path(temporary), images, photos=size.photos, queries=size.queries
        )
        measured = Measured(readings={"gallery_photos": ingest})
        for asset in [name for name in STEPS if name in predicted]:
            run_assets(workspace, [asset], into=measured)
            print(_row(asset, predicted[asset].seconds, measured.readings[asset].seconds), flush=True)
    times = {asset: (row.seconds, measured.readings[asset].seconds) for asset, row in predicted.items()}
    disk = {asset: (row.disk, measured.disk.get(asset, 0.0)) for asset, row in predicted.items()}
    memory = max(reading.memory for reading in measured.readings.values())
    total = [sum(values) for values in zip(*times.values(), strict=True)]
    print(_row("all", *total))
    facts = {
        "photos": size.photos,
        "seconds_predicted": round(total[0], 1),
        "seconds_measured": round(total[1], 1),
        "total_ratio": round(total[1] / total[0], 3),
        "memory_gb": [round(max(row.memory for row in predicted.values()) / 1e9, 2), round(memory / 1e9, 2)],
        "assets": {asset: [round(value, 1) for value in pair] for asset, pair in times.items()},
        "disk_mb": {asset: [round(value / 1e6, 1) for value in pair] for asset, pair in disk.items()},
    }
    print(json.dumps(facts))


def _row(asset: str, predicted: float, measured: float) -> str:
    return (
        f"{asset:20} predicted {predicted:8.1f} s   measured {measured:8.1f} s   {measured / max(predicted, 0.1):5.2f}"
    )


if __name__ == "__main__":
    main()
