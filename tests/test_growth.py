"""Growing sets: only new photos are computed, and the results equal those of a full build."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_artifacts import artifact, make_features
from made_photos import CountingEncoder, make_photos

from dualgeo_core.base.artifacts import RECORD, digest_files, write_record
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import unfinished
from dualgeo_core.model.fusion import Architecture, new_model
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.pipeline import stage1, writers
from dualgeo_core.pipeline.opening import open_views
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.retrieval.index import GalleryIndex
from dualgeo_core.settings import Profile, RetrievalSettings, Settings
from dualgeo_core.views.codebook import CODEBOOK
from dualgeo_core.views.encoder import Encoder, load_encoder

PROFILE = Profile.model_validate(
    {
        "name": "growing",
        "device": "cpu",
        "threads": 1,
        "photos": {"gallery": {"photo_set": "set"}, "benchmarks": {"queries": {"photo_set": "queries"}}},
        "segmenter": {"kind": "codebook", "image_size": 64, "mask_size": 12, "codebook_classes": 5, "batch_size": 4},
        "encoder": {"name": "efficientnet-lite0", "image_size": 64, "token_grid": 2, "batch_size": 4},
        "relighting": {"copies": 1},
        "model": {"variants": ["encoder"], "main": "encoder", "label_grid": 8},
    }
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(PROFILE.encoder)


def workspace_of(home: Path, label_grid: int = 8) -> Workspace:
    model = PROFILE.model.model_copy(update={"label_grid": label_grid})
    return Workspace(Settings(profile=PROFILE.model_copy(update={"model": model}), home=home))


def make_gallery(workspace: Workspace) -> dict[str, tuple[int, int]]:
    """Builds the gallery up to its index; returns how many photos each step computed and took over."""
    stage1.make_segmenter(workspace)
    made = {
        "masks": stage1.make_masks(workspace, GALLERY),
        "features": stage1.make_features(workspace, GALLERY),
        "relit_views": stage1.make_relit_views(workspace),
        "embeddings": stage1.make_embeddings(workspace, "encoder"),
        "index": stage1.make_index(workspace, "encoder"),
    }
    return {step: (facts["computed"], facts["taken_over"]) for step, facts in made.items()}


def files_of(workspace: Workspace) -> dict[str, Path]:
    """Masks, label maps, features, relit views and embeddings by their path below the artifacts."""
    root = workspace.settings.artifacts
    return {
        str(path.relative_to(root)): path
        for step in ("masks", "label_maps", "features", "relit_views", "embeddings")
        for path in sorted((root / step).rglob("photos-*"))
    }


def test_a_grown_gallery_computes_its_new_photos_and_equals_one_made_from_scratch(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = CountingEncoder(encoder)
    monkeypatch.setattr(writers, "open_encoder", lambda workspace: counting)
    grown, scratch = workspace_of(tmp_path / "grown"), workspace_of(tmp_path / "scratch")
    make_photos(grown.settings.data, numbers=range(10))
    assert set(make_gallery(grown).values()) == {(10, 0)}
    inodes = {name: path.stat().st_ino for name, path in files_of(grown).items()}
    assert len(inodes) == 2 * 5
    assert set(make_gallery(grown).values()) == {(0, 10)}

    make_photos(grown.settings.data, numbers=range(10, 18), add=True)
    counting.seen = 0
    made = make_gallery(grown)

    assert set(made.values()) == {(8, 10)}
    assert counting.seen == 2 * 8, "each photo clean and relit"
    assert inodes.items() <= {name: path.stat().st_ino for name, path in files_of(grown).items()}.items()
    shutil.copytree(grown.settings.data, scratch.settings.data)
    shutil.copytree(grown.folder("segmenter"), scratch.folder("segmenter"))  # the grown gallery keeps its own
    assert set(make_gallery(scratch).values()) == {(18, 0)}
    assert {name: path.read_bytes() for name, path in files_of(grown).items()} == {
        name: path.read_bytes() for name, path in files_of(scratch).items()
    }
    made_from_photos = (("masks", GALLERY), ("features", GALLERY), ("relit_views", "1"))
    for kind, name in (*made_from_photos, ("embeddings", "encoder"), ("index", "encoder")):
        folder = grown.folder(kind, name)
        twin = scratch.settings.artifacts / folder.relative_to(grown.settings.artifacts)
        assert (folder / RECORD).read_bytes() == (twin / RECORD).read_bytes()
    queries = np.random.default_rng(0).normal(size=(5, encoder.width)).astype(np.float32)
    found, expected = (
        GalleryIndex.open(workspace.folder("index", "encoder")).search(queries, k=18) for workspace in (grown, scratch)
    )
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.similarity, expected.similarity)


def test_an_index_that_the_gallery_cannot_fill_is_refused_before_any_encoding(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = CountingEncoder(encoder)
    monkeypatch.setattr(writers, "open_encoder", lambda workspace: counting)
    make_photos(tmp_path / "data", numbers=range(10))
    retrieval = RetrievalSettings(index="IVF11,Flat")
    workspace = Workspace(Settings(profile=PROFILE.model_copy(update={"retrieval": retrieval}), home=tmp_path))
    steps = (
        stage1.make_segmenter,
        *(partial(step, photos_name=GALLERY) for step in (stage1.make_masks, stage1.make_features)),
    )
    for step in steps:
        with pytest.raises(InputError, match=r"retrieval.index IVF11,Flat needs 11 gallery photos .* has 10: use"):
            step(workspace)
    assert counting.seen == 0
    assert not workspace.settings.artifacts.exists()


def test_a_set_that_shrinks_or_changes_takes_over_what_it_still_holds(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path)
    make_photos(tmp_path / "data", numbers=range(20))  # shards of 7, 7 and 6
    make_gallery(workspace)
    codebook = (workspace.folder("segmenter") / CODEBOOK).read_bytes()

    make_photos(tmp_path / "data", numbers=[*range(7), *range(8, 15)])
    made = make_gallery(workspace)

    assert (workspace.folder("segmenter") / CODEBOOK).read_bytes() != codebook, "it was fitted on photos that are gone"
    every = (14, 0)
    assert made == {
        "masks": every,
        "features": (7, 7),
        "relit_views": every,
        "embeddings": every,
        "index": every,
    }
    assert sorted(path.name for path in workspace.folder("features", GALLERY).glob("photos-*")) == [
        "photos-00000.safetensors",
        "photos-00001.safetensors",
    ]


def test_other_label_maps_embed_the_gallery_anew(tmp_path: Path) -> None:
    make_photos(tmp_path / "data", numbers=range(10))
    make_gallery(workspace_of(tmp_path))
    made = make_gallery(workspace_of(tmp_path, label_grid=16))
    # The raw encoder's embeddings come out the same, so the index of them stays.
    reused, computed = (0, 10), (10, 0)  # photos computed, photos taken over
    assert made == {
        "masks": reused,
        "features": reused,
        "relit_views": computed,
        "embeddings": computed,
        "index": reused,
    }


def test_a_trained_model_embeds_new_photos_and_another_one_all_of_them(tmp_path: Path) -> None:
    def save_model(seed: int) -> None:
        views = open_views(workspace, GALLERY)
        architecture = Architecture.of(
            settings=PROFILE.model.model_copy(update={"width": 16, "heads": 2, "gps_hidden": 16}),
            variant="cross_attention",
            encoder_width=views.width,
            image_tokens=views.tokens_per_photo,
            classes=views.classes,
        )
        made = artifact(workspace.folder("models", "cross_attention"), recipe=str(seed))
        model = new_model(architecture=architecture, gps_weights="random", seed=seed)
        model.save_pretrained(made.path)
        write_record(made.path, made, digest_files(made.path), {})  # as a finished training leaves it

    def embed() -> tuple[int, int]:
        made = stage1.make_embeddings(workspace, "cross_attention")
        return made["computed"], made["taken_over"]

    workspace = workspace_of(tmp_path)
    make_photos(tmp_path / "data", numbers=range(10))
    make_gallery(workspace)
    save_model(seed=0)
    assert embed() == (10, 0)
    make_photos(tmp_path / "data", numbers=range(10, 13), add=True)
    make_gallery(workspace)
    assert embed() == (3, 10)
    save_model(seed=1)
    assert embed() == (13, 0)


def test_a_killed_build_of_a_grown_set_goes_on_even_where_the_set_grows_again(tmp_path: Path, encoder: Encoder) -> None:
    def build(photos: Photos, killed_after: int | None = None) -> tuple[dict[str, int], int]:
        counting = CountingEncoder(encoder, killed_after=killed_after)
        folder = tmp_path / "features" / "set"
        made = make_features(folder, photos=photos, encoder=counting, settings=PROFILE.encoder)  # type: ignore[arg-type]
        return made, counting.seen

    build(make_photos(tmp_path, numbers=range(7)))
    with pytest.raises(KeyboardInterrupt):
        build(make_photos(tmp_path, numbers=range(7, 21), add=True), killed_after=9)
    unfinished(tmp_path / "features" / "set.partial" / "photos-00002.safetensors", "tmp").write_bytes(b"unfinished")
    photos = make_photos(tmp_path, numbers=range(21, 24), add=True)

    made, seen = build(photos)

    assert made == {"computed": 10, "taken_over": 14}
    assert seen == 10, "the second shard was finished before the kill"
    names = sorted(path.name for path in (tmp_path / "features" / "set").iterdir())
    assert names == [*(f"photos-{number:05d}.safetensors" for number in range(4)), RECORD]
