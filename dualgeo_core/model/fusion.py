"""The dual-view model: the tokens of a photo and of its label map attend to each other, within one photo.

Shapes: b photos, t tokens of a view (its readout token first), d width, e encoder width, h x w label grid.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_folder, read_json, reading, write_json
from dualgeo_core.base.tensors import read_tensors, write_tensors
from dualgeo_core.model.gps_encoder import GpsEncoder, Projection
from dualgeo_core.model.retrieval_head import RetrievalHead
from dualgeo_core.model.tokens import AttentionBlock, ImageTokens, LabelTokens
from dualgeo_core.settings import ModelSettings, Representation

WEIGHTS, CONFIG = "model.safetensors", "config.json"
JOINED: tuple[Representation, ...] = ("joint", "late_fusion")  # both views, each for itself and together


class Architecture(BaseModel):
    """Input sizes and settings from which a model is built; stored as config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: Representation
    encoder_width: int
    image_tokens: int
    classes: int
    label_grid: int
    width: int
    heads: int
    layers: int
    dropout: float
    projection: Projection
    fourier_sigmas: tuple[float, ...]
    gps_hidden: int

    @classmethod
    def of(
        cls, *, settings: ModelSettings, variant: Representation, encoder_width: int, image_tokens: int, classes: int
    ) -> "Architecture":
        """The architecture of one variant.

        Raises InputError if the variant has nothing to train.
        """
        if variant == "encoder":
            raise InputError(
                "the variant `encoder` is the frozen encoder and has nothing to train; choose another variant"
            )
        return cls(
            variant=variant,
            encoder_width=encoder_width,
            image_tokens=image_tokens,
            classes=classes,
            **settings.model_dump(include=cls.model_fields.keys() & ModelSettings.model_fields.keys()),
        )

    def has(self, view: str) -> bool:
        """Whether the variant has `view` (`image`, `mask` or `joint`)."""
        if view == "joint":
            return self.variant in JOINED
        return self.variant != ("mask_only" if view == "image" else "image_only")


class ViewEmbeddings(NamedTuple):
    """Unit vectors (b, d) in the joint space of the GPS encoder; None for a view that the variant does not use."""

    image: Tensor | None
    mask: Tensor | None
    joint: Tensor | None = None


class DualViewModel(nn.Module):
    """Maps photo and label map to unit vectors aligned with places; a photo's vectors depend on that photo alone.

    The variants `image_only` and `mask_only` have one view, whose tokens attend to each other. `concatenation` joins
    the readout tokens of both views. In `cross_attention` the tokens of each view attend to the tokens of both views.
    `joint` has both views for themselves, as `image_only` and `mask_only`, and a third vector of their readouts and of
    those of a cross-attention. `late_fusion` is `joint` with every token attending to its own view only.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        read = a.width * (2 if a.variant == "concatenation" else 1)
        if a.has("image"):
            self.image_tokens = ImageTokens(encoder_width=a.encoder_width, tokens=a.image_tokens, width=a.width)
            self.image_blocks = _blocks(a)
            self.image_head = _head(read, a.width)
        if a.has("mask"):
            self.label_tokens = LabelTokens(classes=a.classes, label_grid=a.label_grid, width=a.width)
            self.mask_blocks = _blocks(a)
            self.mask_head = _head(read, a.width)
        if a.has("joint"):
            self.image_cross_blocks = _blocks(a)
            self.mask_cross_blocks = _blocks(a)
            self.joint_head = _head(4 * a.width, a.width)
        self.gps_encoder = GpsEncoder(
            width=a.width, hidden=a.gps_hidden, projection=a.projection, sigmas=a.fourier_sigmas
        )
        self.retrieval_head = RetrievalHead(width=a.width, encoder_width=a.encoder_width)
        self.log_scale = nn.ParameterDict(
            {view: nn.Parameter(torch.tensor(math.log(1 / 0.07))) for view in ViewEmbeddings._fields if a.has(view)}
        )

    def forward(self, pooled_be: Tensor, tokens_bte: Tensor, label_maps_bhw: Tensor) -> ViewEmbeddings:
        variant = self.architecture.variant
        image = self.image_tokens(pooled_be, tokens_bte) if self.architecture.has("image") else None
        mask = self.label_tokens(label_maps_bhw) if self.architecture.has("mask") else None
        if image is not None and mask is None:
            return ViewEmbeddings(_unit(self.image_head(_read(image, self.image_blocks))), None)
        if mask is not None and image is None:
            return ViewEmbeddings(None, _unit(self.mask_head(_read(mask, self.mask_blocks))))
        assert image is not None
        assert mask is not None
        if variant in JOINED:
            return self._joined(image, mask)
        if variant == "cross_attention":
            image_bd, mask_bd = _read_both(image, mask, self.image_blocks, self.mask_blocks)
        else:
            readouts = _read(image, self.image_blocks), _read(mask, self.mask_blocks)
            image_bd = mask_bd = torch.cat(readouts, dim=-1)
        return ViewEmbeddings(_unit(self.image_head(image_bd)), _unit(self.mask_head(mask_bd)))

    def _joined(self, image_btd: Tensor, mask_btd: Tensor) -> ViewEmbeddings:
        """A vector of each view that does not depend on the other view, and one of both together."""
        image_bd, mask_bd = _read(image_btd, self.image_blocks), _read(mask_btd, self.mask_blocks)
        if self.architecture.variant == "joint":
            across = _read_both(image_btd, mask_btd, self.image_cross_blocks, self.mask_cross_blocks)
        else:
            across = _read(image_btd, self.image_cross_blocks), _read(mask_btd, self.mask_cross_blocks)
        joint_bd = self.joint_head(torch.cat([image_bd, across[0], mask_bd, across[1]], dim=-1))
        return ViewEmbeddings(_unit(self.image_head(image_bd)), _unit(self.mask_head(mask_bd)), _unit(joint_bd))

    def save_pretrained(self, folder: Path) -> None:
        """Writes model.safetensors and config.json to `folder`, atomically."""
        with atomic_folder(folder) as temporary:
            write_tensors(temporary / WEIGHTS, self.state_dict())
            write_json(temporary / CONFIG, self.architecture.model_dump(mode="json"))

    @classmethod
    def from_pretrained(cls, folder: Path) -> "DualViewModel":
        """The model saved in `folder`, in evaluation mode. Raises InputError if weights and config do not match."""
        remedy = "run the step models again"
        model = cls(Architecture(**read_json(folder / CONFIG)))
        with reading(folder / WEIGHTS, remedy=remedy):
            model.load_state_dict(read_tensors(folder / WEIGHTS, remedy=remedy))
        return model.eval()


def new_model(*, architecture: Architecture, gps_weights: str, seed: int) -> DualViewModel:
    """A model with seeded initial weights, and GeoCLIP's published GPS encoder if `gps_weights` is `geoclip`.

    Raises InputError if GeoCLIP's weights are not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DualViewModel(architecture)
    if gps_weights == "geoclip":
        model.gps_encoder.load_geoclip()
    return model


def _blocks(a: Architecture) -> nn.ModuleList:
    return nn.ModuleList(AttentionBlock(width=a.width, heads=a.heads, dropout=a.dropout) for _ in range(a.layers))


def _read(tokens_btd: Tensor, blocks: nn.ModuleList) -> Tensor:
    """The readout (b, d) of one view, whose tokens attend to each other."""
    for number, block in enumerate(blocks, start=1):
        tokens_btd = block(tokens_btd, tokens_btd, readout_only=number == len(blocks))
    return tokens_btd[:, 0]


def _read_both(
    image_btd: Tensor, mask_btd: Tensor, image_blocks: nn.ModuleList, mask_blocks: nn.ModuleList
) -> tuple[Tensor, Tensor]:
    """The readouts (b, d) of two views, whose tokens attend to the tokens of both."""
    for number, (image_block, mask_block) in enumerate(zip(image_blocks, mask_blocks, strict=True), start=1):
        both = torch.cat([image_btd, mask_btd], dim=1)
        last = number == len(image_blocks)
        image_btd, mask_btd = image_block(image_btd, both, last), mask_block(mask_btd, both, last)
    return image_btd[:, 0], mask_btd[:, 0]


def _head(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width_in), nn.Linear(width_in, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def _unit(vectors_bd: Tensor) -> Tensor:
    """Unit vectors in float32 or float64; half precision loses the small differences that rank neighbours."""
    return functional.normalize(vectors_bd if vectors_bd.dtype == torch.float64 else vectors_bd.float(), dim=-1)
