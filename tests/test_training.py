"""The training loop: learning, resuming to the same weights, and user errors."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing import active_children, get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from made_views import MadeViews, make_views
from safetensors.torch import load_file

from dualgeo_core.base.devices import choose_device
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.geo import haversine_km
from dualgeo_core.model.batches import step_size
from dualgeo_core.model.embed import embed, gps_scores
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.model.interruption import TrainingInterruptedError
from dualgeo_core.model.trainer import TrainingResult, train
from dualgeo_core.photos.photographers import split_by_photographer
from dualgeo_core.settings import (
    ModelSettings,
    PhotoSettings,
    PhotoSource,
    Profile,
    RelightingSettings,
    TrainingSettings,
)

MODEL = {"width": 32, "heads": 4, "label_grid": 16, "gps_hidden": 64, "projection": "unit_sphere"}
TRAINING = {
    "epochs": 3,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "soft_target_km": 0.5,
    "validation_share": 0.3,
    "gps_queue": 48,
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _profile(model: dict | None = None, **training) -> Profile:
    return Profile(
        name="tiny",
        device="cpu",
        photos=PhotoSettings(
            gallery=PhotoSource(photo_set="made"), benchmarks={"queries": PhotoSource(photo_set="queries")}
        ),
        relighting=RelightingSettings(copies=1 if training.get("relit_share") else 0),
        model=ModelSettings(**{**MODEL, **(model or {})}),
        training=TrainingSettings(**{**TRAINING, **training}),
    )


def _train(folder: Path, views: MadeViews | None = None, variant="cross_attention", **options) -> TrainingResult:
    names = ("on_metrics", "profile", "give_up_others", "relit")
    named = {name: options.pop(name) for name in names if name in options}
    return train(
        views=views or make_views(),
        profile=named.pop("profile", None) or _profile(**options),
        variant=variant,
        folder=folder,
        **named,
    )


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _recall_25km(vectors: np.ndarray, views: MadeViews, queries: np.ndarray, gallery: np.ndarray) -> float:
    found = views.frame.iloc[gallery[(vectors[queries] @ vectors[gallery].T).argmax(axis=1)]]
    own = views.frame.iloc[queries]
    distance = haversine_km(own["latitude"], own["longitude"], found["latitude"], found["longitude"])
    return float((distance <= 25).mean())


def test_fused_training_beats_chance_and_the_raw_encoder(tmp_path: Path) -> None:
    """By ten times chance, and by half again the raw encoder: weather moves its vectors more than the place does."""
    views = make_views(places=60, weather=3.0, noise=1.0)
    _train(tmp_path / "model", views=views, epochs=12, patience=12)
    split = split_by_photographer(views.frame, _profile().training)
    model = DualViewModel.from_pretrained(tmp_path / "model")
    fused = _recall_25km(
        embed(model=model, views=views, variant="cross_attention").search_nd, views, split.queries, split.training
    )
    raw = _recall_25km(
        embed(model=None, views=views, variant="encoder").search_nd, views, split.queries, split.training
    )
    assert fused > 10 / 60
    assert fused > 1.5 * raw


def test_image_to_gps_scores_find_places_of_unseen_photos(tmp_path: Path) -> None:
    views = make_views(places=20)
    _train(tmp_path / "model", views=views, epochs=16, patience=16)
    rows = split_by_photographer(views.frame, _profile().training).queries
    model = DualViewModel.from_pretrained(tmp_path / "model")
    photos = embed(model=model, views=views, variant="cross_attention", rows=rows).places_nd
    assert photos is not None
    frame = views.frame
    scores = gps_scores(model, photos, frame["latitude"], frame["longitude"])
    right = scores.argmax(axis=1) // 6 == rows // 6
    assert right.mean() > 10 / 20
    own = frame[["latitude", "longitude"]].to_numpy()[rows, None]
    paired = gps_scores(model, photos, own[..., 0], own[..., 1])
    assert np.allclose(paired[:, 0], scores[np.arange(len(rows)), rows], atol=1e-4)


def test_embedding_some_rows_is_embedding_all_of_them(tmp_path: Path) -> None:
    views = make_views()
    _train(tmp_path / "model", views=views, epochs=1)
    model = DualViewModel.from_pretrained(tmp_path / "model")
    everything = embed(model=model, views=views, variant="cross_attention").search_nd
    some = embed(model=model, views=views, variant="cross_attention", rows=np.array([7, 3])).search_nd
    assert np.allclose(np.linalg.norm(everything, axis=1), 1, atol=1e-5)
    assert np.allclose(some, everything[[7, 3]], atol=1e-5)


@pytest.mark.parametrize("stop_after", [2, 7])
def test_stopped_and_resumed_gives_the_same_weights(tmp_path: Path, stop_after: int) -> None:
    """In the first epoch and later on; Ctrl-C and SIGTERM leave a checkpoint."""
    curve, curve_of_halves = [], []
    _train(tmp_path / "whole", on_metrics=lambda step, metrics: curve.append((step, metrics["loss"])))

    def stop(step: int, metrics: dict[str, float]) -> None:
        curve_of_halves.append((step, metrics["loss"]))
        if step == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterruptedError, match="start it again to resume"):
        _train(tmp_path / "halves", on_metrics=stop)
    assert not (tmp_path / "halves").exists()
    _train(tmp_path / "halves", on_metrics=lambda step, metrics: curve_of_halves.append((step, metrics["loss"])))
    assert curve_of_halves == curve
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "halves"))


def test_reader_processes_and_parts_resume_alike_and_survive_a_stop_of_the_whole_group(tmp_path: Path) -> None:
    """A service manager sends SIGTERM to all processes of a service, and a terminal sends Ctrl-C to them."""
    options = {"shuffle_photos": 40, "relit_share": 0.5}
    relit = [make_views(weather=3.0)]
    whole = _train(tmp_path / "whole", relit=relit, **options)
    process = get_context("spawn").Process(target=_stop_the_group, args=(tmp_path / "halves", options))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not (tmp_path / "halves").exists()
    assert _train(tmp_path / "halves", relit=relit, readers=2, **options) == replace(
        whole, folder=str(tmp_path / "halves")
    )
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "halves"))
    _train(tmp_path / "full", relit=relit, relit_share=0.5)
    assert not _same(_weights(tmp_path / "whole"), _weights(tmp_path / "full"))


def _stop_the_group(folder: Path, options: dict) -> None:
    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 7:
            os.killpg(0, signal.SIGTERM)

    os.setsid()
    torch.set_num_threads(1)
    with pytest.raises(TrainingInterruptedError, match="start it again to resume"):
        _train(folder, relit=[make_views(weather=3.0)], readers=2, on_metrics=stop, **options)


def test_a_reader_that_is_killed_ends_training_in_one_line(tmp_path: Path) -> None:
    def kill(step: int, metrics: dict[str, float]) -> None:
        for reader in active_children():
            reader.kill()

    with pytest.raises(InputError, match=r"^the processes that read batches .* lower training\.readers[^\n]*$"):
        _train(tmp_path / "model", readers=1, epochs=50, on_metrics=kill)


def test_relit_copies_are_read_and_resumed_alike(tmp_path: Path) -> None:
    """The light of each photo of a step is drawn from the step's number, so a resumed run draws the same."""

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    relit = [make_views(weather=3.0), make_views(weather=2.0, noise=0.7)]
    whole = _train(tmp_path / "whole", relit=relit, variant="joint")
    with pytest.raises(TrainingInterruptedError):
        _train(tmp_path / "halves", relit=relit, variant="joint", on_metrics=stop)
    assert _train(tmp_path / "halves", relit=relit, variant="joint").validation == whole.validation
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "halves"))
    _train(tmp_path / "clean", variant="joint")
    clean, learned = (_weights(tmp_path / name)["image_head.1.weight"] for name in ("clean", "whole"))
    assert not torch.equal(clean, learned)
    other = [make_views(weather=4.0, seed=9), relit[1]]
    steps: list[int] = []
    _train(tmp_path / "whole", relit=other, variant="joint", on_metrics=lambda step, metrics: steps.append(step))
    assert steps, "a finished model is trained again if the relit photos are others"


def test_a_stop_after_the_last_step_is_not_forgotten(tmp_path: Path) -> None:
    """The model is complete by then, but the caller must not start its next step."""

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == last:
            os.kill(os.getpid(), signal.SIGTERM)

    last = _train(tmp_path / "first").step
    with pytest.raises(TrainingInterruptedError, match="stopped on request after its last step"):
        _train(tmp_path / "model", on_metrics=stop)
    assert _same(_weights(tmp_path / "first"), _weights(tmp_path / "model"))


def _train_and_die(folder: Path) -> None:
    def die(step: int, metrics: dict[str, float]) -> None:
        if step == 9:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    _train(folder, on_metrics=die)


def test_killed_and_resumed_gives_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL leaves no time for a checkpoint: the run resumes at the end of the last epoch."""
    process = get_context("spawn").Process(target=_train_and_die, args=(tmp_path / "killed",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    seen = []
    _train(tmp_path / "killed", on_metrics=lambda step, metrics: seen.append(step))
    assert seen[0] > 1, "it did not begin anew"
    _train(tmp_path / "whole")
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "killed"))


def test_the_seed_settles_the_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _train(tmp_path / name, epochs=1, seed=seed)
    assert _same(_weights(tmp_path / "a"), _weights(tmp_path / "b"))
    assert not _same(_weights(tmp_path / "a"), _weights(tmp_path / "c"))


def test_a_finished_run_is_left_alone_and_other_settings_replace_it(tmp_path: Path) -> None:
    first = _train(tmp_path / "model", epochs=1)
    steps = []
    again = _train(tmp_path / "model", epochs=1, on_metrics=lambda step, metrics: steps.append(step))
    assert (again, steps) == (first, [])
    other = _train(tmp_path / "model", epochs=2)
    assert other.step == 2 * first.step


def test_an_unfinished_run_of_other_settings_is_refused_by_their_first_difference(tmp_path: Path) -> None:
    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterruptedError):
        _train(tmp_path / "model", on_metrics=stop)
    with pytest.raises(InputError, match=r"model\.width is 32 in the checkpoint, 64 in the settings"):
        _train(tmp_path / "model", model={"width": 64}, learning_rate=1e-3)
    with pytest.raises(InputError, match=r"views is .* in the checkpoint, .* in the settings"):
        _train(tmp_path / "model", views=make_views(seed=5))
    steps: list[int] = []
    _train(tmp_path / "model", seed=4, give_up_others=True, on_metrics=lambda step, metrics: steps.append(step))
    assert steps[0] == 1, "unattended, the other run is given up"


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    """A learning rate too small to change a rank: the first epoch stays the best, patience ends the run."""
    result = _train(tmp_path / "model", epochs=20, patience=2, learning_rate=1e-12)
    epoch = result.best_step
    assert result.step == 3 * epoch


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(tmp_path: Path) -> None:
    views = make_views()
    views.pooled_nd[17] = float("nan")
    with pytest.raises(InputError, match=r"loss became nan at step \d+ with learning rate .* photo-0\d\d\d") as caught:
        _train(tmp_path / "model", views=views)
    diverged = json.loads((tmp_path / "model.partial" / "diverged.json").read_text())
    assert "photo-0017" in diverged["ids"]
    assert f"step {diverged['step']} " in str(caught.value)


def test_out_of_memory_names_the_setting_to_lower(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out of memory .* batches of 32: lower training\.batch_size"):
        _train(tmp_path / "model", model={"gps_hidden": 2**40})


def test_every_process_gets_photos_or_the_run_is_refused() -> None:
    settings = TrainingSettings(batch_size=4)
    assert step_size(settings, photos=100, processes=3) == 3
    assert step_size(settings, photos=2, processes=2) == 2
    for photos, processes in ((100, 8), (3, 4)):
        with pytest.raises(InputError, match=f"{processes} training processes need a photo each.* {photos} training"):
            step_size(settings, photos=photos, processes=processes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is a device")
def test_a_device_that_is_not_here_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^device cuda:1 is not available here \([^\n]+\); set device to cpu"):
        choose_device("cuda:1", threads=1)


def test_one_photographer_cannot_be_split(tmp_path: Path) -> None:
    views = make_views(photos_per_place=1)
    with pytest.raises(InputError, match=r"training\.validation_share"):
        _train(tmp_path / "model", views=views)


WORKER = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from test_training import _train
_train(Path({folder!r}), epochs=2, model={{"dropout": 0.0}}, on_metrics=lambda step, m: print("loss", m["loss"]))
"""


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """At the same global batch: the same loss curve, and weights alike but for rounding."""
    curve = []
    _train(
        tmp_path / "one",
        epochs=2,
        model={"dropout": 0.0},
        on_metrics=lambda step, metrics: curve.append(metrics["loss"]),
    )
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "two")))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("loss")] == pytest.approx(
        curve, rel=2e-3
    )
    one, two = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    trained = [name for name in one if not name.startswith("retrieval_head")]
    assert all(torch.allclose(one[name], two[name], atol=2e-3) for name in trained)
