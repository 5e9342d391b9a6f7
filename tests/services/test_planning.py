"""`dualgeo plan` with a calibration on the real steps of a tiny profile, and the plan on Dagster's page."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY_PROFILE, Home

from dualgeo_core.planning.rates import read_rates
from dualgeo_core.settings import load_profile

PLAN_FACTS = """
from dualgeo_dagster.reporting.plan import plan_facts
print({{name: value.value for name, value in plan_facts({photos}).items()}})
"""


def test_a_calibration_is_made_once_and_its_rates_are_shown_on_the_first_assets_page(
    tmp_path: Path, new_home: Callable[[Path], Home]
) -> None:
    home = new_home(tmp_path / "home")
    assert home.python("-c", PLAN_FACTS.format(photos=120)).stdout.strip() == "{}"
    arguments = ["plan", "--photos", "4100000", "--price-per-hour", "2", "--photo-kb", "90"]
    first = home.dualgeo(*arguments, "--calibration-photos", "360")
    assert "calibrated in" in first.stderr
    assert "369.0 GB" in first.stdout
    assert "cost at 2 per hour: " in first.stdout
    second = home.dualgeo(*arguments)
    assert "calibrated in" not in second.stderr
    assert second.stdout == first.stdout

    rates = read_rates(home.path / "artifacts/tiny/rates.json", load_profile(home.path / "profiles/tiny.yaml"))
    assert all(sum(asset.seconds.values()) + asset.seconds_once > 0 for asset in rates.assets.values())
    assert rates.assets["gallery_features"].disk_per_photo == pytest.approx((1 + 2 * 2) * 1280 * 2, rel=0.1)
    assert [path.name for path in (home.path / "artifacts/tiny").iterdir()] == ["rates.json"]

    shown = home.python("-c", PLAN_FACTS.format(photos=4_100_000)).stdout
    features = next(line for line in first.stdout.splitlines() if line.startswith("gallery_features"))
    asset, time, disk = re.split("  +", features)[:3]
    assert f"| {asset} | {time} | {disk} | " in shown

    other = TINY_PROFILE.replace("image_size: 64, token_grid", "image_size: 96, token_grid")
    (home.path / "profiles/tiny.yaml").write_text(other)
    refused = home.dualgeo(*arguments, "--rates", "artifacts/tiny/rates.json", code=2)
    assert "was measured with other settings" in refused.stderr
