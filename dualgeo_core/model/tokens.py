"""The tokens of a photo and of its label map, and the block in which tokens attend to tokens.

Shapes: b photos, t tokens of a view (its readout token first), s context tokens, d width, e encoder width, h x w label
grid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH = 4  # cells of the label grid per side of a patch; four patches make a token


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
