"""Every file of a finished home is deleted, cut and altered in turn: the same run brings every byte back."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import TINY_PROFILE, Home

from dualgeo_core.base.artifacts import RECORD
from dualgeo_core.base.errors import InputError
from dualgeo_core.pipeline import stage1, stage2
from dualgeo_core.pipeline.verification import remove_damaged, verify
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.settings import Settings, load_profile

BENCHMARK, MODEL = "by_day", "joint"


def run_steps(workspace: Workspace) -> None:
    """The whole graph, step by step, as the job runs it."""
    stage1.make_segmenter(workspace)
    for name in (GALLERY, BENCHMARK):
        stage1.make_masks(workspace, name)
        stage1.make_features(workspace, name)
    stage1.make_relit_views(workspace)
    stage1.make_model(workspace, MODEL, on_metrics=lambda step, metrics: None)
    stage1.make_embeddings(workspace, MODEL)
    stage1.make_index(workspace, MODEL)
    stage1.make_candidates(workspace, BENCHMARK)
    stage2.make_refiner(workspace)
    stage2.make_locator(workspace)
    stage2.make_clusters(workspace, BENCHMARK)
    stage2.make_lmm_answers(workspace, BENCHMARK)
    stage2.make_predictions(workspace, BENCHMARK)
    stage2.make_scores(workspace, BENCHMARK)


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".verified.json")  # times of files, which differ
    }


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, new_home: Callable[[Path], Home]) -> Workspace:
    """A home of one benchmark and one representation, in which every step has run once."""
    home = new_home(tmp_path_factory.mktemp("repair") / "home")
    profile = yaml.safe_load(TINY_PROFILE)
    profile["photos"]["benchmarks"].pop("by_night")
    profile["model"]["variants"] = [MODEL]
    path = home.path / "profiles" / "tiny.yaml"
    path.write_text(yaml.safe_dump(profile))
    home.python("-m", "dvc", "repro", "-q")
    made = Workspace(Settings(profile=load_profile(path), home=home.path))
    run_steps(made)
    return made


def artifact_files(workspace: Workspace) -> Iterator[Path]:
    files = sorted(path for path in workspace.settings.artifacts.rglob("*") if path.is_file())
    aside = (".lock", ".verified.json")  # an empty file of one builder's, and times of files
    yield from (path for path in files if not path.name.endswith(aside))


def alter(path: Path) -> None:
    """Flips 64 bits in the middle of the file, or all it has."""
    content = bytearray(path.read_bytes())
    middle = max(0, len(content) // 2 - 32)
    for place in range(middle, min(middle + 64, len(content))):
        content[place] ^= 1
    path.write_bytes(content)


def test_every_file_that_is_lost_cut_or_altered_comes_back_to_the_byte(workspace: Workspace) -> None:
    whole = bytes_of(workspace.settings.artifacts)
    assert verify(workspace) == []
    for path in list(artifact_files(workspace)):
        name = path.relative_to(workspace.settings.artifacts)
        content = path.read_bytes()
        # The file may be a hard link: what is written below must not reach its other name.
        path.unlink()
        run_steps(workspace)
        assert bytes_of(workspace.settings.artifacts) == whole, f"{name} deleted"

        path.unlink()
        path.write_bytes(content[: len(content) // 2])
        run_steps(workspace)
        assert bytes_of(workspace.settings.artifacts) == whole, f"{name} cut"

        alter(path)
        damages = verify(workspace)
        # A record that was altered may still be whole JSON that fits the files: then the next run replaces it.
        assert [damage.path for damage in damages] == [path] or path.name == RECORD, f"{name} altered"
        assert remove_damaged(damages) == []
        run_steps(workspace)
        assert bytes_of(workspace.settings.artifacts) == whole, f"{name} altered"


def test_what_is_damaged_reaches_no_locator(workspace: Workspace) -> None:
    folder = workspace.settings.artifacts
    for kind in ("features/gallery", "index/joint", "models/joint", "segmenter", "refiner"):
        path = next(path for path in sorted((folder / kind).iterdir()) if path.name != RECORD)
        content = path.read_bytes()
        alter(path)
        shutil.rmtree(workspace.locator, ignore_errors=True)
        with pytest.raises(InputError, match=f"{path.name} is damaged"):
            stage2.make_locator(workspace)
        path.write_bytes(content)
    stage2.make_locator(workspace)


def test_a_step_takes_in_no_damaged_view(workspace: Workspace) -> None:
    refiner, label_maps = workspace.folder("refiner"), workspace.folder("label_maps", GALLERY)
    for damaged, made, step in (
        ("features/gallery", refiner, stage2.make_refiner),
        ("masks/gallery", label_maps, lambda workspace: stage1.make_masks(workspace, GALLERY)),
    ):
        folder = workspace.settings.artifacts / damaged
        path = next(path for path in sorted(folder.iterdir()) if path.name != RECORD)
        content, aside = path.read_bytes(), workspace.settings.home / "aside"
        alter(path)
        made.replace(aside)
        with pytest.raises(InputError, match=f"{path.name} is damaged"):
            step(workspace)
        assert not made.exists()
        path.write_bytes(content)
        aside.replace(made)


@pytest.mark.parametrize("lost", ["set.json", "quarantine.csv", ""], ids=["manifest", "quarantine", "whole set"])
def test_what_a_photo_set_has_lost_is_named(workspace: Workspace, lost: str) -> None:
    folder = workspace.settings.data / "gallery"
    aside = workspace.settings.home / "aside"
    (folder / lost).replace(aside)
    try:
        [damage] = verify(workspace)
        assert damage.path == folder / (lost or "set.json")
        assert damage.is_photo_set
        assert {"features/gallery", "models/joint", "locator"} <= set(damage.dependents)
    finally:
        aside.replace(folder / lost)


def test_a_cut_manifest_is_named(workspace: Workspace) -> None:
    manifest = workspace.settings.data / BENCHMARK / "set.json"
    content = manifest.read_bytes()
    manifest.write_bytes(content[: len(content) // 2])
    try:
        assert [damage.path for damage in verify(workspace)] == [manifest]
    finally:
        manifest.write_bytes(content)


def test_a_stray_file_hides_no_artifact(workspace: Workspace) -> None:
    stray = workspace.folder("index") / ".DS_Store"
    stray.write_text("a file browser was here")
    index = next(path for path in workspace.folder("index", MODEL).iterdir() if path.name != RECORD)
    content = index.read_bytes()
    alter(index)
    try:
        assert [damage.path for damage in verify(workspace)] == [index]
    finally:
        index.write_bytes(content)
        stray.unlink()


def test_a_shard_of_two_parts_of_a_set_is_named_once(workspace: Workspace) -> None:
    photos = workspace.profile.photos
    both = {"by_day": photos.gallery.model_copy(update={"part": "queries"})}
    changed = workspace.profile.model_copy(update={"photos": photos.model_copy(update={"benchmarks": both})})
    shard = next((workspace.settings.data / "gallery").glob("*.parquet"))
    aside = workspace.settings.home / "aside"
    shard.replace(aside)
    try:
        [damage] = verify(Workspace(Settings(profile=changed, home=workspace.settings.home)))
        assert {"features/gallery", "features/by_day"} <= set(damage.dependents)
    finally:
        aside.replace(shard)


def test_a_damaged_photo_shard_is_refused_and_named(workspace: Workspace) -> None:
    shard = next((workspace.settings.data / "gallery").glob("*.parquet"))
    copy = shard.with_suffix(".copy")
    shutil.copyfile(shard, copy)
    shard.unlink()  # DVC's cache holds a hard link
    shutil.copyfile(copy, shard)
    alter(shard)
    features = workspace.folder("features", GALLERY)
    aside = workspace.settings.home / "aside"
    try:
        found = verify(workspace)
        assert [damage.path for damage in found] == [shard]
        assert {"masks/gallery", "models/joint", "locator", "scores/by_day"} <= set(found[0].dependents)
        features.replace(aside)
        with pytest.raises(InputError, match=f"{shard.name} is damaged"):
            stage1.make_features(workspace, GALLERY)
    finally:
        shutil.rmtree(features.with_name("gallery.partial"), ignore_errors=True)
        if aside.exists():
            shutil.rmtree(features, ignore_errors=True)
            aside.replace(features)
        copy.replace(shard)
