"""A made-up package geoclip, and a small CLIP whose vectors have the width of the real one."""

from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

Weights = dict[str, torch.Tensor]


def make_geoclip(folder: Path) -> Weights:
    """A package in `folder` laid out as GeoCLIP's, with weights of its names and shapes, that cannot be imported.

    Returns the location encoder's weights.
    """
    torch.manual_seed(1)
    weights = {}
    for scale in range(3):
        weights[f"LocEnc{scale}.capsule.0.b"] = torch.randn(256, 2) * 16**scale
        for layer, (width_out, width_in) in {1: (1024, 512), 3: (1024, 1024), 5: (1024, 1024)}.items():
            weights[f"LocEnc{scale}.capsule.{layer}.weight"] = torch.randn(width_out, width_in) / width_in**0.5
            weights[f"LocEnc{scale}.capsule.{layer}.bias"] = torch.randn(width_out) / 10
        weights[f"LocEnc{scale}.head.0.weight"] = torch.randn(512, 1024) / 32
        weights[f"LocEnc{scale}.head.0.bias"] = torch.randn(512) / 10
    files = folder / "geoclip" / "model" / "weights"
    files.mkdir(parents=True)
    (folder / "geoclip" / "__init__.py").write_text("raise AssertionError('geoclip was imported')")
    torch.save(weights, files / "location_encoder_weights.pth")
    head = {"0.weight": (768, 768), "0.bias": (768,), "2.weight": (512, 768), "2.bias": (512,)}
    torch.save({name: torch.randn(shape) / 28 for name, shape in head.items()}, files / "image_encoder_mlp_weights.pth")
    torch.save(torch.tensor(3.681), files / "logit_scale_weights.pth")
    return weights


def make_clip(folder: Path, **config: int) -> Path:
    """A checkpoint of CLIP's image part with random weights; `config` replaces the shape of a very small one."""
    torch.manual_seed(2)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape = {**small, "patch_size": 14, "image_size": 56, "projection_dim": 768, **config}
    CLIPVisionModelWithProjection(CLIPVisionConfig(**shape)).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def made_photo(seed: int) -> Image.Image:
    """A photo of coloured noise, so that every seed has other vectors."""
    pixels = torch.rand((6, 6, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray((255 * pixels).byte().numpy()).resize((90, 60))
