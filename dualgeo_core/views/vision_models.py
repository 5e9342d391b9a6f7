"""transformers' vision models as encoders: CLIP, SigLIP, SigLIP2, DINOv2, ViT, ConvNeXt and their like."""

import inspect
from typing import Any

import torch
from transformers import AutoModel, CLIPVisionModelWithProjection

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import EncoderSettings
from dualgeo_core.views.backbone import Backbone
from dualgeo_core.views.pretrained import load_config, load_model, load_normalisation

MID_LEVEL_STRIDE = 16
# Their pooling layer is a classifier's by-product that most checkpoints leave untrained; their class token is not.
UNPOOLED = ("vit", "deit", "vit_mae", "vit_msn")


class VisionTransformer(Backbone):
    """Pooled vector: the model's own pooler (SigLIP's attention head, DINOv2's class token), else the class token.

    Patches: the last layer's tokens without class and register tokens, which all these models put first.
    """

    def __init__(self, model: Any, *, image_size: int) -> None:
        super().__init__()
        self.model = model
        self.width = int(model.config.hidden_size)
        self.patch = int(model.config.patch_size)
        if image_size % self.patch:
            raise InputError(
                f"this encoder has patches of {self.patch} px: encoder.image_size {image_size} is no multiple"
            )
        # DINOv2 always fits its position embeddings to the image; the others do where they are asked to.
        asked = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if asked else {}

    def forward(self, pixels_bchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.run(pixels_bchw)
        pooled_bd = outputs.get("pooler_output")
        if pooled_bd is None:
            pooled_bd = outputs.last_hidden_state[:, 0]
        return pooled_bd, self.patch_grid(outputs.last_hidden_state, pixels_bchw)

    def mid_level(self, pixels_bchw: torch.Tensor) -> torch.Tensor:
        layers = self.run(pixels_bchw, output_hidden_states=True).hidden_states
        return self.patch_grid(layers[len(layers) // 2], pixels_bchw)

    def run(self, pixels_bchw: torch.Tensor, **options: Any) -> Any:
        return self.model(pixel_values=pixels_bchw, **self.options, **options)

    def patch_grid(self, tokens_btd: torch.Tensor, pixels_bchw: torch.Tensor) -> torch.Tensor:
        rows, columns = (side // self.patch for side in pixels_bchw.shape[2:])
        if tokens_btd.shape[1] < rows * columns:
            raise InputError(
                f"{type(self.model).__name__} merges its patches; take an encoder of the CLIP, SigLIP, DINOv2, ViT or "
                "ConvNeXt families"
            )
        return tokens_btd[:, -rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))


class ClipVision(VisionTransformer):
    """CLIP: pooled vector and patches both through its last norm and projection, into the space it shares with text."""

    def __init__(self, model: Any, *, image_size: int) -> None:
        super().__init__(model, image_size=image_size)
        self.width = int(model.config.projection_dim)

    def forward(self, pixels_bchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.run(pixels_bchw)
        tokens_btd = self.model.visual_projection(self.model.vision_model.post_layernorm(outputs.last_hidden_state))
        return outputs.image_embeds, self.patch_grid(tokens_btd, pixels_bchw)


class NaflexVision(VisionTransformer):
    """SigLIP2 NaFlex, which takes ready-cut patches with their grid's shape instead of an image."""

    def run(self, pixels_bchw: torch.Tensor, **options: Any) -> Any:
        rows, columns = (side // self.patch for side in pixels_bchw.shape[2:])
        cut = pixels_bchw.unflatten(3, (columns, self.patch)).unflatten(2, (rows, self.patch))  # b c rows y columns x
        patches_btp = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        shapes = torch.tensor([[rows, columns]] * len(pixels_bchw), device=pixels_bchw.device)
        mask_bt = torch.ones(patches_btp.shape[:2], dtype=torch.int32, device=pixels_bchw.device)
        return self.model(pixel_values=patches_btp, pixel_attention_mask=mask_bt, spatial_shapes=shapes, **options)


class ConvolutionalVision(Backbone):
    """Networks whose stages are feature maps; the middle one is the deepest at 16 pixels a step or finer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.width = int(model.config.hidden_sizes[-1])

    def forward(self, pixels_bchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.model(pixel_values=pixels_bchw)
        return outputs.pooler_output.flatten(1), outputs.last_hidden_state

    def mid_level(self, pixels_bchw: torch.Tensor) -> torch.Tensor:
        stages = self.model(pixel_values=pixels_bchw, output_hidden_states=True).hidden_states
        return [stage for stage in stages if stage.shape[-1] * MID_LEVEL_STRIDE >= pixels_bchw.shape[-1]][-1]


def load_vision_model(settings: EncoderSettings) -> Backbone:
    """The vision part, and only it, of a checkpoint by hub name or folder; raises InputError where it cannot serve."""
    name, revision = settings.name, settings.revision
    config = load_config(name, revision)
    vision = getattr(config, "vision_config", config)
    backbone: Backbone
    if config.model_type in ("clip", "clip_vision_model"):
        model = load_model(CLIPVisionModelWithProjection, name, revision)
        backbone = ClipVision(model, image_size=settings.image_size)
    elif hasattr(vision, "patch_size") and hasattr(vision, "hidden_size"):
        options = {"add_pooling_layer": False} if vision.model_type in UNPOOLED else {}
        model = load_model(AutoModel, name, revision, config=vision, **options)
        kind = NaflexVision if vision.model_type == "siglip2_vision_model" else VisionTransformer
        backbone = kind(model, image_size=settings.image_size)
    elif hasattr(vision, "hidden_sizes"):
        backbone = ConvolutionalVision(load_model(AutoModel, name, revision, config=vision))
    else:
        raise InputError(f"encoder {name} is a {config.model_type}, which is no vision model this project can read")
    backbone.mean, backbone.std = load_normalisation(name, revision)
    return backbone
