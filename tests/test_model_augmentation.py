"""Recomputing with augmentation: photo and label map move together, nothing is mirrored, runs stay repeatable."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from made_artifacts import made_views, make_features, make_masks
from PIL import Image
from safetensors.torch import load_file

from dualgeo_core.base.errors import InputError
from dualgeo_core.model.augmentation import AugmentedEncoding
from dualgeo_core.model.trainer import train
from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter
from dualgeo_core.settings import (
    EncoderSettings,
    ModelSettings,
    PhotoSettings,
    PhotoSource,
    Profile,
    SegmenterSettings,
    TrainingSettings,
)
from dualgeo_core.views.encoder import Encoder, load_encoder

COUNT, SIZE, GRID = 24, 64, 16
ENCODER = EncoderSettings(name="efficientnet-lite0", image_size=SIZE, token_grid=2)
MASKS = SegmenterSettings(mask_size=32)


def _photo(number: int) -> bytes:
    """An image with red increasing to the right and green downwards, so that a colour identifies a position."""
    rows, columns = np.mgrid[0:96, 0:96]
    pixels = np.stack([columns * 2, rows * 2, np.full_like(rows, number)], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class QuarterSegmenter:
    """Labels the quarters of a photo 0, 1, 2, 3, by their colours."""

    classes, fingerprint = 4, "quarters"

    def segment(self, images: list[Image.Image]) -> np.ndarray:
        squares = np.stack([np.asarray(image.resize((32, 32))) for image in images])
        return ((squares[..., 0] > 96) + 2 * (squares[..., 1] > 96)).astype(np.uint8)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(ENCODER)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    data = tmp_path_factory.mktemp("data")
    rows = [IngestedPhoto(f"p{i:02d}", float(i), float(2 * i), f"author{i % 4}", _photo(i)) for i in range(COUNT)]
    with ThreadPoolExecutor(1) as pool:
        PhotoWriter(
            out=data / "set", recipe="made", entries=rows, read=lambda row: row, pool=pool, shard_photos=10
        ).write(max_quarantine_share=0)
    return open_photos(PhotoSource(photo_set="set"), data)


@pytest.fixture(scope="module")
def made(photos: Photos, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    make_features(root / "features", photos=photos, encoder=encoder, settings=ENCODER)
    make_masks(root / "masks", photos=photos, segmenter=QuarterSegmenter(), settings=MASKS, label_grid=GRID)
    return root


@pytest.fixture(scope="module")
def augmented(photos: Photos, encoder: Encoder, made: Path) -> AugmentedEncoding:
    return AugmentedEncoding(photos=photos, masks_folder=made / "masks", encoder=encoder, label_grid=GRID)


def test_rows_are_read_in_the_order_asked_for(photos: Photos, augmented: AugmentedEncoding) -> None:
    rows = np.array([17, 3, 23, 3])
    assert photos.take(rows) == [_photo(row) for row in rows]
    squares = augmented.read(rows)
    assert squares.photos_bchw[:, 2, 5, 5].tolist() == rows.tolist()
    part = Photos(photos.folder, PhotoSource(photo_set="set", part="queries", query_share=0.5))
    numbers = part.frame["id"].str[1:].astype(int).to_numpy()
    assert 0 < len(numbers) < COUNT
    assert part.take(np.arange(len(numbers))) == [_photo(number) for number in numbers]


def test_photo_and_label_map_are_cropped_alike_and_never_mirrored(augmented: AugmentedEncoding) -> None:
    """For every crop and light, pixels labelled right are redder than pixels labelled left."""
    squares = augmented.read(np.arange(COUNT))
    torch.manual_seed(0)
    pixels, maps = augmented._augment(squares.photos_bchw.float() / 255, squares.label_maps_bhw.float()[:, None])
    assert set(maps.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}, "no class was mixed with another"
    for photo, labels in zip(pixels, maps[:, 0].long(), strict=True):
        for channel, far in ((0, labels % 2 == 1), (1, labels >= 2)):
            near_values, far_values = photo[channel][~far], photo[channel][far]
            assert near_values.quantile(0.98) < far_values.quantile(0.02) + 0.1
    crops = {tuple(torch.bincount(labels.flatten().long(), minlength=4).tolist()) for labels in maps}
    assert len(crops) > COUNT // 2, "each photo has a crop of its own"


def test_views_of_a_step_follow_from_its_seed(augmented: AugmentedEncoding) -> None:
    squares = augmented.read(np.arange(4))
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(augmented.views(squares))
    assert torch.equal(views[0].pooled_bd, views[1].pooled_bd)
    assert not torch.equal(views[0].pooled_bd, views[2].pooled_bd)
    assert views[0].label_maps_bhw.shape == (4, GRID, GRID)


def test_training_recomputes_and_repeats(photos, made, augmented, tmp_path: Path) -> None:
    views = made_views(photos, features=made / "features", masks=made / "masks")
    profile = Profile(
        name="tiny",
        device="cpu",
        photos=PhotoSettings(
            gallery=PhotoSource(photo_set="set"), benchmarks={"queries": PhotoSource(photo_set="queries")}
        ),
        model=ModelSettings(width=16, heads=2, label_grid=GRID, gps_hidden=16),
        training=TrainingSettings(epochs=1, batch_size=6, learning_rate=1e-3, validation_share=0.3, recompute=True),
    )
    arguments = {"views": views, "profile": profile, "variant": "cross_attention"}
    in_readers = profile.model_copy(update={"training": profile.training.model_copy(update={"readers": 2})})
    for name, these in (("a", profile), ("b", in_readers)):
        train(**{**arguments, "profile": these}, folder=tmp_path / name, augmented=augmented)
    cached = profile.model_copy(update={"training": profile.training.model_copy(update={"recompute": False})})
    train(**{**arguments, "profile": cached}, folder=tmp_path / "cached")
    a, b, c = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b", "cached"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["image_tokens.pooled.weight"], c["image_tokens.pooled.weight"])
    with pytest.raises(InputError, match=r"training\.recompute"):
        train(**arguments, folder=tmp_path / "d")
