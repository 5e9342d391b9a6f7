"""Relighting: what each kind of light changes, the same light for the same photo, and views of relit photos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_artifacts import artifact, make_masks
from made_photos import COUNT, CountingEncoder, make_photos
from PIL import Image
from pydantic import ValidationError

from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.settings import EncoderSettings, RelightingSettings, SegmenterSettings
from dualgeo_core.views.encoder import Encoder, load_encoder
from dualgeo_core.views.relighting import relight
from dualgeo_core.views.relit import RelitEncoding, RelitWriter, build_relit_views
from dualgeo_core.views.segmenter import Segmenter, fit_segmenter

KINDS = {"regions": 0, "colour": 0, "veil": 0, "dark": 0, "blur": 0, "noise": 0}
SIDE = 48
ENCODER = EncoderSettings(name="efficientnet-lite0", image_size=64, token_grid=2, batch_size=4)
SEGMENTER = SegmenterSettings(kind="codebook", image_size=32, mask_size=12, batch_size=4, codebook_classes=5)


def _only(**kinds: float) -> RelightingSettings:
    return RelightingSettings(**{**KINDS, **kinds})


def _photo() -> Image.Image:
    """Noise: bluish in the left half, reddish in the right one."""
    pixels = np.random.default_rng(0).integers(60, 160, (SIDE, SIDE, 3))
    pixels[:, : SIDE // 2, 2] += 60
    pixels[:, SIDE // 2 :, 0] += 60
    return Image.fromarray(pixels.astype(np.uint8))


HALVES = np.repeat(np.array([[0, 7]], dtype=np.uint8), 12, axis=0).repeat(6, axis=1)


def _relit(settings: RelightingSettings, copy: int = 1, photo_id: str = "a") -> np.ndarray:
    return np.asarray(relight(_photo(), HALVES, photo_id=photo_id, copy=copy, settings=settings)).astype(float)


def test_the_same_photo_and_copy_get_the_same_light_and_others_another() -> None:
    settings = RelightingSettings()
    before = torch.random.get_rng_state()
    first = _relit(settings)
    torch.manual_seed(5)
    again = _relit(settings)
    torch.random.set_rng_state(before)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, _relit(settings, copy=2))
    assert not np.array_equal(first, _relit(settings, photo_id="b"))


def test_every_photo_changes_even_where_each_kind_is_rare() -> None:
    settings = _only(dark=0.02, colour=0.02)
    clean = np.asarray(_photo()).astype(float)
    assert all(np.abs(_relit(settings, copy=copy) - clean).mean() > 2 for copy in range(8))


def test_darkness_takes_light_away() -> None:
    clean = np.asarray(_photo()).astype(float).mean()
    assert all(_relit(_only(dark=1, lamps=0), copy=copy).mean() < 0.8 * clean for copy in range(6))


def test_a_veil_takes_contrast_away() -> None:
    clean = np.asarray(_photo()).astype(float).std(axis=(0, 1)).mean()
    settings = _only(veil=1, veil_unevenness=0)
    assert all(_relit(settings, copy=copy).std(axis=(0, 1)).mean() < 0.85 * clean for copy in range(6))


def test_colours_can_be_taken_away() -> None:
    settings = _only(colour=1, saturation=(0, 0), channel_gain=0)
    grey = _relit(settings)
    assert np.abs(grey - grey.mean(axis=-1, keepdims=True)).max() <= 1


def test_region_light_differs_between_classes_and_not_within_one() -> None:
    settings = _only(regions=1, region_offset=0, region_tint=0)
    ratio = _relit(settings)[..., 1] / np.asarray(_photo())[..., 1]
    left, right = ratio[:, : SIDE // 2 - 4], ratio[:, SIDE // 2 + 4 :]
    assert abs(left.mean() - right.mean()) > 0.05
    assert max(left.std(), right.std()) < 0.01


def test_blur_smooths_and_noise_roughens() -> None:
    def roughness(pixels: np.ndarray) -> float:
        return float(np.abs(np.diff(pixels, axis=1)).mean())

    still = {"colour": 1, "saturation": (1, 1), "contrast": (1, 1), "channel_gain": 0, "brightness": 0}
    clean = roughness(np.asarray(_photo()).astype(float))
    assert roughness(_relit(_only(**still))) == pytest.approx(clean, rel=1e-3)
    assert roughness(_relit(_only(**still, blur=1))) < clean
    assert roughness(_relit(_only(**still, noise=0.3))) > clean


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"copies": 1, "regions": 0, "colour": 0, "veil": 0, "dark": 0}, "raise one of them, or set copies to 0"),
        ({"contrast": (1.2, 0.6)}, "write the lower bound first"),
        ({"exposure": (0, 0.5)}, "use a lower bound above 0"),
    ],
)
def test_settings_that_cannot_be_followed_say_what_to_do(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RelightingSettings(**settings)


# --- views of relit photos ---


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return make_photos(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(ENCODER)


@pytest.fixture(scope="module")
def segmenter(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    made = artifact(tmp_path_factory.mktemp("fit") / "segmenter", recipe=SEGMENTER.fingerprint)
    return fit_segmenter(made, settings=SEGMENTER, encoder_settings=ENCODER, photos=photos)


@pytest.fixture(scope="module")
def masks(photos: Photos, segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks") / "set"
    make_masks(folder, photos=photos, segmenter=segmenter, settings=SEGMENTER, label_grid=8)
    return folder


def _build(
    folder: Path, photos: Photos, masks: Path, encoder: object, segmenter: Segmenter, *, copy: int = 1, workers: int = 1
) -> dict[str, bytes]:
    encoding = RelitEncoding(
        encoder=encoder,  # type: ignore[arg-type]
        segmenter=segmenter,
        settings=RelightingSettings(copies=1),
        size=64,
        batch_size=4,
        label_grid=8,
    )
    build_relit_views(
        artifact(folder),
        RelitWriter(photos=photos, masks=masks, copy=copy, encoding=encoding, workers=workers),
        masks_record=artifact(masks, recipe=SEGMENTER.fingerprint).require(),
    )
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def test_killed_relit_views_go_on_to_the_same_bytes(
    photos: Photos, masks: Path, encoder: Encoder, segmenter: Segmenter, tmp_path: Path
) -> None:
    whole = _build(tmp_path / "whole", photos, masks, encoder, segmenter)
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path / "killed", photos, masks, CountingEncoder(encoder, killed_after=10), segmenter)
    assert not (tmp_path / "killed").exists()
    again = CountingEncoder(encoder)
    assert _build(tmp_path / "killed", photos, masks, again, segmenter) == whole
    assert again.seen < COUNT, "the first shard was whole"


def test_several_threads_make_the_same_bytes(
    photos: Photos, masks: Path, encoder: Encoder, segmenter: Segmenter, tmp_path: Path
) -> None:
    alone = _build(tmp_path / "one", photos, masks, encoder, segmenter)
    assert _build(tmp_path / "three", photos, masks, encoder, segmenter, workers=3) == alone
    assert _build(tmp_path / "other", photos, masks, encoder, segmenter, copy=2) != alone
