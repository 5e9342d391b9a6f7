"""The small SegFormer: training on true label maps, scores on other photographers, and the included checkpoint."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dualgeo_core.base.errors import InputError
from dualgeo_core.earth.canvas import CLASSES
from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.photos.writer import IngestedPhoto, PhotoWriter
from dualgeo_core.settings import PhotoSource, SegmenterSettings, load_settings
from dualgeo_core.views.label_maps import encode_png
from dualgeo_core.views.segmenter import SegFormer
from dualgeo_core.views.segmenter_training import METRICS, read_labelled, score_segmenter, train_segmenter

SETTINGS = SegmenterSettings(image_size=32, mask_size=8)


def make_photos(data: Path, part: str, with_maps: bool = True) -> Photos:
    """Grey walls with one red patch each, by twelve photographers; the patch is class 1."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(96):
        label_map = np.zeros((40, 40), np.uint8)
        top, left = random.integers(0, 24, 2)
        label_map[top : top + 16, left : left + 16] = 1
        pixels = np.where(label_map[..., None] == 1, [200, 30, 30], [110, 110, 110]) + random.normal(0, 8, (40, 40, 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
        more = {"label_map": encode_png(label_map), "night": number % 2 == 0} if with_maps else {}
        rows.append(IngestedPhoto(f"p{number}", 1.0, 2.0, f"author{number % 12}", buffer.getvalue(), more=more))
    columns = {"label_map": pa.binary(), "night": pa.bool_()} if with_maps else {}
    with ThreadPoolExecutor(1) as pool:
        writer = PhotoWriter(
            out=data / "walls",
            recipe=f"walls {with_maps}",
            entries=rows,
            read=lambda row: row,
            pool=pool,
            more_columns=columns,
        )
        writer.write(max_quarantine_share=0)
    return open_photos(PhotoSource.model_validate({"photo_set": "walls", "part": part, "query_share": 0.3}), data)


def test_learns_and_is_scored_on_others(tmp_path: Path) -> None:
    training, held_out = make_photos(tmp_path, "gallery"), make_photos(tmp_path, "queries")
    left_out = frozenset(training.frame["author"].unique()[:1])

    scores = train_segmenter(
        photos=training,
        held_out=held_out,
        class_names=("wall", "patch"),
        settings=SETTINGS,
        folder=tmp_path / "checkpoint",
        epochs=4,
        seed=0,
        without=left_out,
    )

    assert scores["held_out"]["mean_iou"] > 0.75  # all wall would be 0.42
    assert scores["held_out"]["photos"] == len(held_out)
    assert scores["trained_on"]["photos"] == (~training.frame["author"].isin(left_out)).sum()
    assert set(scores["held_out"]["mean_iou_by_condition"]) == {"night=False", "night=True"}
    segmenter = SegFormer(SETTINGS.model_copy(update={"name": str(tmp_path / "checkpoint")}), "cpu")
    again = score_segmenter(segmenter, read_labelled(held_out, SETTINGS.image_size), ("wall", "patch"))
    assert again == scores["held_out"]
    assert (tmp_path / "checkpoint" / METRICS).is_file()


def test_photos_without_true_maps_cannot_teach(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="label_map"):
        read_labelled(make_photos(tmp_path, "all", with_maps=False), 32)


def test_shipped_segmenter_serves_the_demo() -> None:
    """It loads without a hub, names the synthetic Earth's classes, and stays under its size."""
    settings = load_settings("demo").profile.segmenter
    segmenter = SegFormer(settings, "cpu")
    folder = Path(__file__).parent.parent / settings.name
    assert segmenter.class_names == CLASSES
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4 * 2**20
    label_maps = segmenter.segment([Image.new("RGB", (160, 120))])
    assert label_maps.shape == (1, settings.mask_size, settings.mask_size)
