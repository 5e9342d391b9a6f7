"""Vision models of transformers as encoders: CLIP, SigLIP, SigLIP2, DINOv2, ViT, ConvNeXt and similar."""

import inspect
from contextlib import suppress
from typing import Any

import torch
from transformers import AutoModel, CLIPVisionModelWithProjection

from dualgeo_core.base.errors import InputError
from dualgeo_core.settings import EncoderSettings
from dualgeo_core.views.backbone import Backbone
from dualgeo_core.views.pretrained import load_config, load_model, load_normalisation

MID_LEVEL_STRIDE = 16
# Most checkpoints of these models have an untrained pooling layer, but a trained class token.
UNPOOLED = ("vit", "deit", "vit_mae", "vit_msn")


class VisionTransformer(Backbone):
    """A vision transformer. Its patches are the last layer's tokens without the leading class and register tokens.

    The pooled vector is the output of the model's own pooler (SigLIP's attention head, DINOv2's class token) if there
    is one, otherwise the class token.
    """

    def __init__(self, model: Any, *, image_size: int) -> None:
        super().__init__()
        with suppress(ValueError):  # few models have only the slower attention of transformers
            model.set_attn_implementation("sdpa")
        self.model = model
        self.model_type = model.config.model_type
        self.width = int(model.config.hidden_size)
        self.patch = int(model.config.patch_size)
        if image_size % self.patch:
            raise InputError(
                f"encoder.image_size {image_size} does not fit this encoder: use a multiple of {self.patch}"
            )
        # DINOv2 always interpolates its position embeddings to the image size; other models need this option.
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
                f"{type(self.model).__name__} merges its patches; use an encoder of the CLIP, SigLIP, DINOv2, ViT or "
                "ConvNeXt families"
            )
        return tokens_btd[:, -rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))


class ClipVision(VisionTransformer):
    """CLIP. Pooled vector and patches both pass the last norm and the projection into the space shared with text."""

    def __init__(self, model: Any, *, image_size: int) -> None:
        super().__init__(model, image_size=image_size)
        self.width = int(model.config.projection_dim)

    def forward(self, pixels_bchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.run(pixels_bchw)
        tokens_btd = self.model.visual_projection(self.model.vision_model.post_layernorm(outputs.last_hidden_state))
        return outputs.image_embeds, self.patch_grid(tokens_btd, pixels_bchw)


class NaflexVision(VisionTransformer):
    """SigLIP2 NaFlex, whose input is flattened patches and the shape of their grid instead of an image."""

    def run(self, pixels_bchw: torch.Tensor, **options: Any) -> Any:
        rows, columns = (side // self.patch for side in pixels_bchw.shape[2:])
        cut = pixels_bchw.unflatten(3, (columns, self.patch)).unflatten(2, (rows, self.patch))  # b c rows y columns x
        patches_btp = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        shapes = torch.tensor([[rows, columns]] * len(pixels_bchw), device=pixels_bchw.device)
        mask_bt = torch.ones(patches_btp.shape[:2], dtype=torch.int32, device=pixels_bchw.device)
        return self.model(pixel_values=patches_btp, pixel_attention_mask=mask_bt, spatial_shapes=shapes, **options)


class ConvolutionalVision(Backbone):
    """A network whose stages are feature maps. Its middle layer is the deepest stage of stride 16 or less."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.model_type = model.config.model_type
        self.width = int(model.config.hidden_sizes[-1])

    def forward(self, pixels_bchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.model(pixel_values=pixels_bchw)
        return outputs.pooler_output.flatten(1), outputs.last_hidden_state

    def mid_level(self, pixels_bchw: torch.Tensor) -> torch.Tensor:
        stages = self.model(pixel_values=pixels_bchw, output_hidden_states=True).hidden_states
        return [stage for stage in stages if stage.shape[-1] * MID_LEVEL_STRIDE >= pixels_bchw.shape[-1]][-1]


def load_vision_model(settings: EncoderSettings) -> Backbone:
    """The vision part of a checkpoint, by hub name or folder. Raises InputError if it cannot be used as an encoder."""
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
        raise InputError(f"encoder {name} is a {config.model_type}, which is not a supported vision model; use another")
    backbone.mean, backbone.std = load_normalisation(name, revision)
    return backbone
