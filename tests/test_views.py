"""Both views of a photo: alignment, order, interruptions, and refusal of views of other photos."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from made_artifacts import artifact, made_views, make_features, make_masks
from made_photos import COUNT, PER_SHARD, CountingEncoder, make_photos, photo
from PIL import Image

from dualgeo_core.base.errors import InputError
from dualgeo_core.photos.photo_set import Photos, PhotoShard
from dualgeo_core.settings import EncoderSettings, SegmenterSettings
from dualgeo_core.views.batches import in_order, square_batches
from dualgeo_core.views.codebook import CODEBOOK, Codebook, fit_codebook
from dualgeo_core.views.crop import LabelMaps, resize_labels, square_crop, square_crop_labels
from dualgeo_core.views.encoder import Encoder, load_encoder, weights_digest
from dualgeo_core.views.label_maps import decode_png, encode_png, mean_iou
from dualgeo_core.views.segformer import load_segformer
from dualgeo_core.views.segmenter import Segmenter, fit_segmenter, load_segmenter
from dualgeo_core.views.store import Views

ENCODER = EncoderSettings(name="efficientnet-lite0", image_size=64, token_grid=2, batch_size=4)
CODEBOOK_SETTINGS = SegmenterSettings(
    kind="codebook", image_size=64, mask_size=12, batch_size=4, codebook_classes=5, codebook_photos=12
)

LABEL_GRID = 6


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(ENCODER)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return make_photos(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def segmenter(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return fit(CODEBOOK_SETTINGS, photos, tmp_path_factory.mktemp("fit") / "segmenter")


def fit(settings: SegmenterSettings, photos: Photos, folder: Path) -> Segmenter:
    made = artifact(folder, recipe=settings.fingerprint)
    return fit_segmenter(made, settings=settings, encoder_settings=ENCODER, photos=photos)


@pytest.fixture(scope="module")
def built(photos: Photos, encoder: Encoder, segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("artifacts")
    make_views(root, photos, encoder, segmenter)
    return root


def make_views(root: Path, photos: Photos, encoder: Encoder, segmenter: Segmenter) -> None:
    make_features(root / "features" / "set", photos=photos, encoder=encoder, settings=ENCODER)
    make_masks(
        root / "masks" / "set", photos=photos, segmenter=segmenter, settings=CODEBOOK_SETTINGS, label_grid=LABEL_GRID
    )


def open_views(root: Path, photos: Photos) -> Views:
    return made_views(photos, features=root / "features" / "set", masks=root / "masks" / "set")


# --- one geometry ---


@given(width=st.integers(16, 200), height=st.integers(16, 200), size=st.sampled_from([8, 16, 31]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_marked_spot_lands_in_the_same_place_in_photo_and_mask(
    width: int, height: int, size: int, data: st.DataObject
) -> None:
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    x = left + data.draw(st.integers(0, side - 1))
    y = top + data.draw(st.integers(0, side - 1))
    reach = max(3, 2 * side // size)  # large enough to cover a pixel of the small square
    pixels = np.zeros((height, width), dtype=np.uint8)
    pixels[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 255

    seen = np.asarray(square_crop(Image.fromarray(pixels).convert("RGB"), size))[..., 0] > 127
    label = np.asarray(square_crop_labels(Image.fromarray(pixels // 255), size))

    expected = min(size - 1, (y - top) * size // side), min(size - 1, (x - left) * size // side)
    assert seen[expected]
    assert label[expected] == 1
    assert (seen != (label == 1)).mean() <= 4 / size  # at most the border of the patch


@given(
    st.integers(1, 40).flatmap(
        lambda side: st.tuples(st.just(side), st.integers(1, 64), st.integers(0, 2**32 - 1), st.integers(2, 256))
    )
)
@settings(max_examples=60, deadline=None)
def test_ids_survive_png_and_resizing(drawn: tuple[int, int, int, int]) -> None:
    side, size, seed, classes = drawn
    label_map = np.random.default_rng(seed).integers(0, classes, (side, side), dtype=np.uint8)

    back = decode_png(encode_png(label_map))
    resized = resize_labels(np.asarray(back)[None], size)[0]

    np.testing.assert_array_equal(np.asarray(back), label_map)
    assert set(np.unique(resized)) <= set(np.unique(label_map))
    if size % side == 0:
        np.testing.assert_array_equal(resized, np.kron(label_map, np.ones((size // side, size // side), np.uint8)))
    if side % size == 0 and (side // size) % 2:
        step = side // size
        np.testing.assert_array_equal(resized, label_map[step // 2 :: step, step // 2 :: step])


def test_a_square_already_made_is_left_alone() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8))
    once = square_crop(image, 16)
    np.testing.assert_array_equal(np.asarray(square_crop(once, 16)), np.asarray(once))


def test_coloured_png_is_no_label_map() -> None:
    buffer = io.BytesIO()
    Image.new("P", (4, 4)).save(buffer, "PNG")
    with pytest.raises(InputError, match="one-channel"):
        decode_png(buffer.getvalue())


# --- batches ---


@pytest.mark.parametrize("batch_size", [1, 3, 20, 64])
def test_batches_keep_order_and_lose_nobody(photos: Photos, batch_size: int) -> None:
    shard = next(photos.shards())
    batches = list(square_batches(shard, size=8, batch_size=batch_size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    colours = [np.asarray(image).mean() for batch in batches for image in batch]
    expected = [np.asarray(square_crop(Image.open(io.BytesIO(data)), 8)).mean() for data in shard.images]
    np.testing.assert_allclose(colours, expected)


def test_undecodable_photo_is_named(photos: Photos) -> None:
    shard = PhotoShard("s", ["good", "bad"], [photo(0), photo(1)[:200]])
    with pytest.raises(InputError, match="'bad'"):
        list(square_batches(shard, size=8, batch_size=2))


# --- features and masks ---


def test_rows_of_both_views_belong_to_their_photo(
    built: Path, photos: Photos, encoder: Encoder, segmenter: Segmenter
) -> None:
    """Shuffled, repeated rows across shards give exactly what encoder and segmenter give for those photos."""
    views = open_views(built, photos)
    rows = np.array([19, 0, 7, 6, 13, 14, 0, 3])
    images = [Image.open(io.BytesIO(photos.image(photo_id))) for photo_id in views.frame["id"].iloc[rows]]

    batch = views.batch(rows)

    expected = encoder.encode(images)
    assert batch.pooled_bd.dtype == batch.tokens_btd.dtype == torch.float16
    torch.testing.assert_close(batch.pooled_bd.float(), expected.pooled_bd, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(batch.tokens_btd.float(), expected.tokens_btd, rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(batch.label_maps_bhw.numpy(), resize_labels(segmenter.segment(images), 6))
    assert (views.width, views.tokens_per_photo, views.classes) == (1280, 4, 5)


def test_masks_are_one_channel_pngs_with_their_ids(built: Path, photos: Photos) -> None:
    tables = [pq.read_table(path).to_pandas() for path in sorted((built / "masks" / "set").glob("*.parquet"))]
    ids = [photo_id for table in tables for photo_id in table["id"]]
    assert ids == photos.frame["id"].tolist()
    mask = Image.open(io.BytesIO(tables[0]["mask"][0]))
    assert (mask.mode, mask.size) == ("L", (12, 12))


def test_a_part_of_a_set_has_views_of_its_own(tmp_path: Path, encoder: Encoder, segmenter: Segmenter) -> None:
    """Rows stay aligned if a split leaves a shard with few photos or none."""
    queries = make_photos(tmp_path, part="queries")
    assert 0 < len(queries) < COUNT
    make_views(tmp_path, queries, encoder, segmenter)

    views = open_views(tmp_path, queries)

    last = len(queries) - 1
    image = Image.open(io.BytesIO(queries.image(views.frame["id"].iloc[last])))
    pooled = views.batch(np.array([last])).pooled_bd.float()
    torch.testing.assert_close(pooled, encoder.encode([image]).pooled_bd, rtol=2e-3, atol=2e-3)


def test_killed_features_go_on_where_they_stopped(
    photos: Photos, encoder: Encoder, segmenter: Segmenter, built: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "features" / "set"
    killed = CountingEncoder(encoder, killed_after=10)
    with pytest.raises(KeyboardInterrupt):
        make_features(folder, photos=photos, encoder=killed, settings=ENCODER)  # type: ignore[arg-type]
    assert not folder.exists()

    again, reports = CountingEncoder(encoder), []
    make_features(
        folder,
        photos=photos,
        encoder=again,  # type: ignore[arg-type]
        settings=ENCODER,
        progress=lambda what, done, total: reports.append((what, done, total)),
    )

    assert again.seen == COUNT - PER_SHARD  # the first shard was whole
    assert reports[-1] == ("features", COUNT, COUNT)
    for file in folder.glob("*.safetensors"):
        assert file.read_bytes() == (built / "features" / "set" / file.name).read_bytes()
    third = CountingEncoder(encoder)
    make_features(folder, photos=photos, encoder=third, settings=ENCODER)  # type: ignore[arg-type]
    assert third.seen == 0


def test_stale_folders_are_refused_then_replaced(tmp_path: Path, encoder: Encoder, segmenter: Segmenter) -> None:
    photos = make_photos(tmp_path, numbers=range(8))
    with pytest.raises(InputError, match="run the step features"):
        open_views(tmp_path, photos)
    make_views(tmp_path, photos, encoder, segmenter)
    first = open_views(tmp_path, photos)
    made = artifact(tmp_path / "features" / "set", recipe=ENCODER.fingerprint, photos=photos.fingerprint)
    made.require()
    photos = make_photos(tmp_path, numbers=range(3, 12))  # the set is ingested again, with other photos
    with pytest.raises(InputError, match="made from other photos"):
        replace(made, inputs={"photos": photos.fingerprint}).require()
    make_views(tmp_path, photos, encoder, segmenter)
    second = open_views(tmp_path, photos)
    assert len(second.frame) == 9
    assert second.fingerprint != first.fingerprint
    assert (second.encoder, second.segmenter) == (first.encoder, first.segmenter)


# --- segmenters ---


def test_codebook_is_the_same_whenever_it_is_fitted(photos: Photos, segmenter: Segmenter, tmp_path: Path) -> None:
    again = fit(CODEBOOK_SETTINGS, photos, tmp_path / "segmenter")
    loaded = load_segmenter(CODEBOOK_SETTINGS, ENCODER, folder=tmp_path / "segmenter")
    other = fit(CODEBOOK_SETTINGS.model_copy(update={"codebook_seed": 1}), photos, tmp_path / "other")
    assert again.fingerprint == segmenter.fingerprint == loaded.fingerprint
    assert other.fingerprint != segmenter.fingerprint
    image = Image.open(io.BytesIO(photo(2)))
    np.testing.assert_array_equal(loaded.segment([image]), segmenter.segment([image]))


def test_fitted_codebook_is_kept_until_something_changes(photos: Photos, tmp_path: Path) -> None:
    folder = tmp_path / "segmenter"
    fit(CODEBOOK_SETTINGS, photos, folder)
    made = (folder / CODEBOOK).stat().st_mtime_ns
    fit(CODEBOOK_SETTINGS, photos, folder)
    assert (folder / CODEBOOK).stat().st_mtime_ns == made

    changed = CODEBOOK_SETTINGS.model_copy(update={"codebook_classes": 4})
    with pytest.raises(InputError, match="run the step segmenter again"):
        load_segmenter(changed, ENCODER, folder=folder)
    assert fit(changed, photos, folder).classes == 4


def test_codebook_tells_textures_apart_wherever_they_are(tmp_path: Path) -> None:
    """Photos of smooth and of rough halves: the two get two ids, the same ids when left and right are swapped."""
    random = np.random.default_rng(0)

    def halves(swapped: bool) -> Image.Image:
        pixels = np.full((96, 96, 3), 90.0) + random.normal(0, 2, (96, 96, 3))
        pixels[:, 48:] += random.normal(0, 60, (96, 48, 3))
        return Image.fromarray(np.clip(pixels[:, ::-1] if swapped else pixels, 0, 255).astype(np.uint8))

    def png(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    class HalfPhotos:
        folder, shard_keys = tmp_path, ()

        def __len__(self) -> int:
            return 8

        def shards(self) -> list[PhotoShard]:
            return [PhotoShard("s", [str(i) for i in range(8)], [png(halves(i % 2 == 0)) for i in range(8)])]

    settings = CODEBOOK_SETTINGS.model_copy(update={"codebook_classes": 2})
    segmenter = fit(settings, HalfPhotos(), tmp_path / "s")  # type: ignore[arg-type]

    plain, swapped = segmenter.segment([halves(False), halves(True)])

    smooth, rough = np.median(plain[:, :4]), np.median(plain[:, -4:])
    assert smooth != rough
    assert (np.median(swapped[:, :4]), np.median(swapped[:, -4:])) == (rough, smooth)


def test_codebook_takes_the_nearest_centre(tmp_path: Path) -> None:
    """Three greys, unevenly apart, are three classes: the middle one has no largest product with anything."""

    class GreyEncoder:
        fingerprint = "grey"

        def mid_level(self, images: Sequence[Image.Image]) -> torch.Tensor:
            return torch.tensor(np.stack(images)[..., :1], dtype=torch.float32).permute(0, 3, 1, 2)

    class GreyPhotos:
        folder = tmp_path

        def __len__(self) -> int:
            return 3

        def shards(self) -> list[PhotoShard]:
            return [PhotoShard("s", ["a", "b", "c"], [encode_png(np.full((8, 8), v, np.uint8)) for v in greys])]

    greys = (10, 60, 250)
    settings = SegmenterSettings(kind="codebook", image_size=8, mask_size=2, codebook_classes=3)
    fit_codebook(settings, GreyEncoder(), photos=GreyPhotos(), folder=tmp_path)  # type: ignore[arg-type]
    codebook = Codebook(settings, GreyEncoder(), tmp_path)  # type: ignore[arg-type]

    label_maps = codebook.segment([Image.new("RGB", (8, 8), (v, v, v)) for v in greys])

    assert {int(label_map.min()) for label_map in label_maps} == {0, 1, 2}
    assert all(label_map.min() == label_map.max() for label_map in label_maps)


def test_segformer_checkpoint_paints_by_class(tmp_path: Path) -> None:
    """Any SegFormer folder loads; its map at mask_size is the argmax of the model's own upsampled logits."""
    config = transformers.SegformerConfig(
        num_labels=7, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=16
    )
    torch.manual_seed(1)
    model = transformers.SegformerForSemanticSegmentation(config).eval()
    model.save_pretrained(tmp_path / "model")
    transformers.SegformerImageProcessorPil().save_pretrained(tmp_path / "model")
    settings = SegmenterSettings(name=str(tmp_path / "model"), image_size=64, mask_size=32)
    photos = make_photos(tmp_path, numbers=range(2))
    fit(settings, photos, tmp_path / "segmenter")
    segmenter = load_segmenter(settings, ENCODER, folder=tmp_path / "segmenter")
    image = Image.open(io.BytesIO(photo(5)))
    processor = transformers.SegformerImageProcessorPil(do_resize=False)

    label_map = segmenter.segment([image])[0]

    pixels = processor(images=square_crop(image, 64), return_tensors="pt")
    with torch.no_grad():
        expected = processor.post_process_semantic_segmentation(model(**pixels), target_sizes=[(32, 32)])[0]
    assert segmenter.classes == 7
    np.testing.assert_array_equal(label_map, expected.numpy())
    with pytest.raises(InputError, match="run the step segmenter again"):
        load_segmenter(settings.model_copy(update={"mask_size": 16}), ENCODER, folder=tmp_path / "segmenter")


def test_mean_iou_by_hand() -> None:
    true: LabelMaps = np.array([[[0, 0], [1, 2]]], dtype=np.uint8)
    found: LabelMaps = np.array([[[0, 1], [1, 1]]], dtype=np.uint8)
    # class 0: 1 of 2; class 1: 1 of 3; class 2: 0 of 1; class 3: in neither
    assert mean_iou(found, true, classes=4) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert mean_iou(true, true, classes=4) == 1


def test_the_segformer_network_is_that_of_transformers(tmp_path: Path) -> None:
    """The same scores to the last bit, the same fingerprint, and every published stage configuration."""
    config = transformers.SegformerConfig(num_labels=5, depths=[1, 2, 1, 1])
    torch.manual_seed(2)
    model = transformers.SegformerForSemanticSegmentation(config).eval()
    model.save_pretrained(tmp_path)
    transformers.SegformerImageProcessorPil().save_pretrained(tmp_path)
    loaded = load_segformer(str(tmp_path), None)
    pixels = torch.randn(2, 3, 64, 96)

    with torch.inference_mode():
        assert torch.equal(loaded.network.eval()(pixels), model(pixels).logits)
    assert weights_digest(loaded.network) == weights_digest(model)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_segformer(str(tmp_path), None)


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_made_on_threads_keep_their_order_and_hold_few(workers: int) -> None:
    taken = []

    def batches() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    made = in_order(lambda number: 10 * number, batches(), workers=workers)
    assert next(made) == 0
    assert len(taken) <= workers + 1
    assert list(made) == [10 * number for number in range(1, 20)]
