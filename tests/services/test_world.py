"""The profile `world` with GeoCLIP's real heads and random CLIP weights of the true architecture (1.2 GB).

Needs the package geoclip: `pip install --no-deps geoclip`. The comparison with its code also needs what it imports.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Once
from made_geoclip import made_photo, make_clip
from transformers import CLIPImageProcessorPil

from dualgeo_core import Locator
from dualgeo_core.base.geo import haversine_km
from dualgeo_core.model.geoclip import load_geoclip
from dualgeo_core.refine.density import shipped_places
from dualgeo_core.settings import EncoderSettings
from dualgeo_core.views.encoder import load_encoder

VIT_L_14 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
}

pytestmark = pytest.mark.skipif(find_spec("geoclip") is None, reason="needs the package geoclip")


@pytest.fixture
def clip(once: Once) -> Path:
    def make(folder: Path) -> None:
        make_clip(folder / "clip", **VIT_L_14)

    return once("vit_l_14", make) / "clip"


@pytest.fixture
def home(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "world.yaml").write_text(f"places: {{}}\nencoder: {{name: {clip}}}\n")
    monkeypatch.setenv("DUALGEO_HOME", str(tmp_path))
    return tmp_path


def test_real_heads_over_a_random_clip_answer_with_places_of_the_world(home: Path) -> None:
    answers = Locator.from_profile("world").locate([made_photo(0), made_photo(1)], spread=True)
    places = shipped_places()
    for answer in answers:
        best = answer.candidates[0]
        assert haversine_km(best.latitude, best.longitude, places["latitude"], places["longitude"]).min() < 0.1
        assert answer.spread is not None
        assert not answer.calibrated


def test_the_published_location_encoder_tells_places_apart() -> None:
    model = load_geoclip()
    degrees = np.array(shipped_places()[["latitude", "longitude"]])[::40]
    vectors = model.places(torch.from_numpy(degrees))
    assert torch.equal((vectors @ vectors.T).argmax(dim=1), torch.arange(len(degrees)))


def test_agrees_with_geoclips_own_code(tmp_path: Path) -> None:
    theirs = pytest.importorskip("geoclip", exc_type=ImportError).GeoCLIP(clip_pretrained=False).eval()
    ours = load_geoclip()
    features = torch.randn(8, 768, generator=torch.Generator().manual_seed(0))
    degrees = theirs.gps_gallery[::50]
    with torch.no_grad():
        photos = torch.nn.functional.normalize(theirs.image_encoder.mlp(features), dim=1)
        places = torch.nn.functional.normalize(theirs.location_encoder(degrees), dim=1)
    assert torch.allclose(ours.photos(features), photos, atol=1e-5)
    assert torch.allclose(ours.photos(features) @ ours.places(degrees).T, photos @ places.T, atol=1e-5)
    assert ours.scale == pytest.approx(float(theirs.logit_scale.detach().exp()))

    theirs.image_encoder.CLIP.save_pretrained(tmp_path)  # both towers in one checkpoint, as on the model hub
    CLIPImageProcessorPil().save_pretrained(tmp_path)
    image = made_photo(3)
    with torch.no_grad():
        pixels = theirs.image_encoder.preprocess_image(image)
        expected = torch.nn.functional.normalize(theirs.image_encoder(pixels), dim=1)
    seen = ours.photos(load_encoder(EncoderSettings(name=str(tmp_path))).encode([image]).pooled_bd)
    assert torch.allclose(seen, expected, atol=1e-3), "the two resize with slightly different rounding"
