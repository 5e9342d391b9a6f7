"""The dual-view model: the tokens of a photo and of its label map attend to each other, within one photo.

Shapes: b photos, t tokens of a view (its readout token first), d width, h x w label grid, n positions.
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
from dualgeo_core.settings import ModelSettings, Representation

WEIGHTS, CONFIG = "model.safetensors", "config.json"
PATCH = 4  # cells of the label grid per side of a patch; four patches make a token


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
        """Whether the variant uses `view` (`image` or `mask`)."""
        return self.variant != ("mask_only" if view == "image" else "image_only")


class ViewEmbeddings(NamedTuple):
    """Unit vectors (b, d) in the joint space of the GPS encoder; None for a view that the variant does not use."""

    image: Tensor | None
    mask: Tensor | None


class ImageTokens(nn.Module):
    """Image tokens (b, t, d): a readout token from the pooled vector, then patch tokens with learned positions."""

    def __init__(self, *, encoder_width: int, tokens: int, width: int) -> None:
        super().__init__()
        # No affine parameters: the linear layer has its own scale and shift, and backpropagation can stop at it.
        self.norm = nn.LayerNorm(encoder_width, elementwise_affine=False)
        self.pooled = nn.Linear(encoder_width, width)
        self.patches = nn.Linear(encoder_width, width)
        self.layout = _Layout(tokens=tokens, width=width)
        self.position_1td = nn.Parameter(torch.randn(1, tokens, width) * 0.02)

    def forward(self, pooled_be: Tensor, tokens_bte: Tensor) -> Tensor:
        patches_btd = self.patches(self.norm(tokens_bte)) + self.position_1td
        readout_bd = self.pooled(self.norm(pooled_be)) + self.layout(patches_btd)
        return torch.cat([readout_bd[:, None], patches_btd], dim=1)


class LabelTokens(nn.Module):
    """Label-map tokens (b, t, d): a readout token from class shares and layout, then convolved class embeddings.

    Class ids have no order, so each class has a learned embedding.
    """

    def __init__(self, *, classes: int, label_grid: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.embedding = nn.Embedding(classes, width // 8)
        self.patches = nn.Sequential(
            nn.Conv2d(width // 8, width // 2, kernel_size=PATCH, stride=PATCH),
            nn.GELU(),
            nn.Conv2d(width // 2, width, kernel_size=3, stride=2, padding=1),
        )
        tokens = (label_grid // (2 * PATCH)) ** 2
        self.shares = nn.Linear(classes, width)
        self.layout = _Layout(tokens=tokens, width=width)
        self.position_1td = nn.Parameter(torch.randn(1, tokens, width) * 0.02)

    def forward(self, label_maps_bhw: Tensor) -> Tensor:
        labels = label_maps_bhw.long()
        patches_bdhw = self.patches(self.embedding(labels).permute(0, 3, 1, 2))
        patches_btd = patches_bdhw.flatten(2).transpose(1, 2) + self.position_1td
        shares_bc = patches_btd.new_zeros(len(labels), self.classes)
        pixels_bp = labels.flatten(1)
        shares_bc.scatter_add_(1, pixels_bp, torch.full_like(pixels_bp, 1 / pixels_bp.shape[1], dtype=shares_bc.dtype))
        readout_bd = self.shares(shares_bc.sqrt()) + self.layout(patches_btd)
        return torch.cat([readout_bd[:, None], patches_btd], dim=1)


class _Layout(nn.Module):
    """One vector (b, d) of all tokens in spatial order; attention alone would average positions away."""

    def __init__(self, *, tokens: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(width, width // 4)
        self.join = nn.Linear(tokens * (width // 4), width)

    def forward(self, tokens_btd: Tensor) -> Tensor:
        joined: Tensor = self.join(functional.gelu(self.narrow(tokens_btd)).flatten(1))
        return joined


class AttentionBlock(nn.Module):
    """Pre-norm attention over the context tokens and a feed-forward layer, both residual.

    The last block computes only the readout token, because nothing reads the other tokens.
    """

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, tokens_btd: Tensor, context_bsd: Tensor, readout_only: bool) -> Tensor:
        if readout_only:
            tokens_btd = tokens_btd[:, :1]
        queries, context = self.attention_norm(tokens_btd), self.attention_norm(context_bsd)
        tokens_btd = tokens_btd + self.attention(queries, context, context, need_weights=False)[0]
        return tokens_btd + self.feed_forward(tokens_btd)


class DualViewModel(nn.Module):
    """Maps photo and label map to unit vectors aligned with places; a photo's vectors depend on that photo alone.

    The variants `image_only` and `mask_only` have one view, whose tokens attend to each other. `concatenation` joins
    the readout tokens of both views. In `cross_attention` the tokens of each view attend to the tokens of both views.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        joined = a.width * (2 if a.variant == "concatenation" else 1)
        if a.has("image"):
            self.image_tokens = ImageTokens(encoder_width=a.encoder_width, tokens=a.image_tokens, width=a.width)
            self.image_blocks = _blocks(a)
            self.image_head = _head(joined, a.width)
        if a.has("mask"):
            self.label_tokens = LabelTokens(classes=a.classes, label_grid=a.label_grid, width=a.width)
            self.mask_blocks = _blocks(a)
            self.mask_head = _head(joined, a.width)
        self.gps_encoder = GpsEncoder(
            width=a.width, hidden=a.gps_hidden, projection=a.projection, sigmas=a.fourier_sigmas
        )
        self.retrieval_head = RetrievalHead(width=a.width, encoder_width=a.encoder_width)
        self.log_scale = nn.ParameterDict(
            {view: nn.Parameter(torch.tensor(math.log(1 / 0.07))) for view in ViewEmbeddings._fields if a.has(view)}
        )

    def forward(self, pooled_be: Tensor, tokens_bte: Tensor, label_maps_bhw: Tensor) -> ViewEmbeddings:
        image = self.image_tokens(pooled_be, tokens_bte) if self.architecture.has("image") else None
        mask = self.label_tokens(label_maps_bhw) if self.architecture.has("mask") else None
        if image is None or mask is None:
            return self._one_view(image, mask)
        for last, image_block, mask_block in zip(self._is_last, self.image_blocks, self.mask_blocks, strict=True):
            if self.architecture.variant == "cross_attention":
                both = torch.cat([image, mask], dim=1)
                image, mask = image_block(image, both, last), mask_block(mask, both, last)
            else:
                image, mask = image_block(image, image, last), mask_block(mask, mask, last)
        image_readout, mask_readout = image[:, 0], mask[:, 0]
        if self.architecture.variant == "concatenation":
            image_readout = mask_readout = torch.cat([image_readout, mask_readout], dim=-1)
        return ViewEmbeddings(_unit(self.image_head(image_readout)), _unit(self.mask_head(mask_readout)))

    def _one_view(self, image: Tensor | None, mask: Tensor | None) -> ViewEmbeddings:
        if image is not None:
            for last, block in zip(self._is_last, self.image_blocks, strict=True):
                image = block(image, image, last)
            return ViewEmbeddings(_unit(self.image_head(image[:, 0])), None)
        assert mask is not None
        for last, block in zip(self._is_last, self.mask_blocks, strict=True):
            mask = block(mask, mask, last)
        return ViewEmbeddings(None, _unit(self.mask_head(mask[:, 0])))

    @property
    def _is_last(self) -> list[bool]:
        return [layer == self.architecture.layers - 1 for layer in range(self.architecture.layers)]

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


def _head(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width_in), nn.Linear(width_in, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def _unit(vectors_bd: Tensor) -> Tensor:
    """Unit vectors in float32 or float64; half precision loses the small differences that rank neighbours."""
    return functional.normalize(vectors_bd if vectors_bd.dtype == torch.float64 else vectors_bd.float(), dim=-1)
