"""`dualgeo plan`: predictions from rates, and which rates are taken. tests/services measures rates."""

from pathlib import Path
from typing import Any

import pytest

from dualgeo_core.base.errors import InputError
from dualgeo_core.planning.plan import plan
from dualgeo_core.planning.rates import (
    AssetRates,
    Rates,
    known_rates,
    profile_fingerprint,
    rates_file,
    read_rates,
    this_machine,
    write_rates,
)
from dualgeo_core.planning.tables import duration
from dualgeo_core.planning.work import WORK, Size
from dualgeo_core.settings import Profile, Settings


def profile(**sections: Any) -> Profile:
    photos = {"gallery": {"photo_set": "gallery"}, "benchmarks": {"queries": {"photo_set": "queries"}}}
    return Profile.model_validate({"name": "planned", "photos": photos, **sections})


def rates_of(profile: Profile, *, gpu: str | None = None, busy_cores: float = 7.9, **seconds: float) -> Rates:
    """Rates of a machine with 8 cores and 64 GB; every unit takes 1 ms, unless `seconds` has its asset."""
    units = {asset: WORK[asset](profile, Size(photos=1000, queries=10), 768) for asset in WORK}
    return Rates(
        version=1,
        machine={**this_machine(profile), "cores": 8, "memory_gb": 64, "gpu": gpu, "gpus": 1 if gpu else 0},
        profile=profile_fingerprint(profile),
        photos=256,
        photo_bytes=90_000,
        seconds=60,
        width=768,
        assets={
            asset: AssetRates(
                seconds={unit: 1e-9 if unit == "comparison" else seconds.get(asset, 1e-3) for unit in units[asset]},
                seconds_once=5,
                disk_per_photo=1000,
                disk_once=0,
                memory=2e9,
                busy_cores=busy_cores,
            )
            for asset in WORK
        },
    )


def planned(settings: Profile, rates: Rates, photos: int) -> dict[str, Any]:
    return {row.asset: row for row in plan(settings, rates, Size(photos=photos, queries=3000)).assets}


def test_time_and_disk_grow_with_the_photos_and_what_is_done_once_does_not() -> None:
    settings = profile()
    small, large = (planned(settings, rates_of(settings), photos) for photos in (100_000, 400_000))
    assert small["gallery_features"].seconds == pytest.approx(5 + 100)
    assert large["gallery_features"].seconds == pytest.approx(5 + 400)
    assert large["gallery_photos"].disk == pytest.approx(400_000 * 90_000)
    assert large["gallery_masks"].disk == pytest.approx(4 * small["gallery_masks"].disk)
    assert large["models"].memory > small["models"].memory


def test_training_is_planned_for_all_epochs_and_validation_no_longer_grows_with_a_large_gallery() -> None:
    settings = profile(training={"epochs": 10, "validation_share": 0.1})
    medium, large = (planned(settings, rates_of(settings), photos)["models"].seconds for photos in (10**6, 2 * 10**6))
    assert large - medium == pytest.approx(10 * 0.9 * 10**6 * 1e-3)


def test_relighting_and_models_are_planned_only_where_the_profile_has_them() -> None:
    without = profile(model={"variants": ["encoder"], "main": "encoder"})
    assert not {"relit_views", "models"} & set(planned(without, rates_of(without), 1000))
    relit = profile(relighting={"copies": 2})
    assert planned(relit, rates_of(relit), 1000)["relit_views"].seconds == pytest.approx(5 + 2 * 1000 * 1e-3)


def test_a_gallery_too_large_for_exact_search_is_planned_with_a_compressed_index() -> None:
    settings = profile()
    exact, compressed = (
        planned(settings, rates_of(settings), photos)["gallery_index"] for photos in (10**6, 4 * 10**6)
    )
    assert compressed.disk < exact.disk
    assert compressed.memory < exact.memory
    assert compressed.seconds > 10 * exact.seconds / 4


@pytest.mark.parametrize(
    ("gpu", "busy_cores", "bound_by"),
    [
        (None, 7.9, "CPU cores"),
        (None, 1.0, "one CPU core"),
        ("H100", 7.9, "CPU cores beside the GPU"),
        ("H100", 2.0, "GPU"),
    ],
)
def test_what_limits_an_asset_follows_from_the_busy_cores(gpu: str | None, busy_cores: float, bound_by: str) -> None:
    settings = profile()
    row = planned(settings, rates_of(settings, gpu=gpu, busy_cores=busy_cores), 1000)["gallery_features"]
    assert row.bound_by == bound_by
    assert row.advice


def test_a_gpu_is_not_advised_for_what_runs_on_the_cpu() -> None:
    settings = profile()
    rows = planned(settings, rates_of(settings), 1000)
    assert "GPU" in rows["gallery_masks"].advice
    assert "GPU" not in rows["gallery_index"].advice


def test_an_asset_that_does_not_fit_into_memory_is_bound_by_it() -> None:
    settings = profile(retrieval={"index": "Flat"})
    rows = planned(settings, rates_of(settings), 40 * 10**6)
    assert rows["gallery_index"].bound_by == "memory"
    assert rows["gallery_masks"].bound_by == "CPU cores"


def test_rates_hold_for_their_settings_and_known_ones_for_their_machine(tmp_path: Path) -> None:
    settings = Settings(profile=profile(), home=tmp_path)
    assert known_rates(settings) is None
    write_rates(rates_file(settings), rates_of(settings.profile))
    assert known_rates(settings) is None  # another machine's
    assert read_rates(rates_file(settings), settings.profile) == rates_of(settings.profile)
    own = rates_of(settings.profile).model_copy(update={"machine": this_machine(settings.profile)})
    write_rates(rates_file(settings), own)
    assert known_rates(settings) == own
    longer = profile(training={"epochs": 20})  # changes the work, not its rate
    assert read_rates(rates_file(settings), longer) == own
    with pytest.raises(InputError, match="was measured with other settings"):
        read_rates(rates_file(settings), profile(encoder={"image_size": 336}))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"other.json holds no rates .*; write it with `dualgeo plan --calibrate`"):
        read_rates(tmp_path / "other.json", settings.profile)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min"), (3725, "1 h 2 min"), (90_000, "1 d 1 h"), (3605, "1 h 5 s")]
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
