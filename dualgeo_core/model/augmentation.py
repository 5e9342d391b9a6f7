"""Training batches recomputed from augmented photos and label maps instead of read from cached features.

Shapes: b photos, s pixels per side of the encoder's input, g cells per side of the label grid.
"""

from pathlib import Path
from typing import NamedTuple

import kornia.augmentation as kornia
import numpy as np
import torch
from kornia.constants import DataKey, Resample
from numpy.typing import NDArray
from pyarrow.dataset import dataset
from torch import Tensor

from dualgeo_core.photos.decode import decode_image
from dualgeo_core.photos.photo_set import Photos
from dualgeo_core.views.crop import resize_labels, square_crop
from dualgeo_core.views.encoder import Encoder
from dualgeo_core.views.label_maps import decode_png
from dualgeo_core.views.store import ViewBatch


class Squares(NamedTuple):
    """Photos (b, 3, s, s) and their label maps (b, s, s), both uint8 and cropped to the same square."""

    photos_bchw: Tensor
    label_maps_bhw: Tensor


class AugmentedEncoding:
    """Training batches from augmented photos: `read` decodes on the CPU, `views` augments and encodes on the device.

    Photos are never mirrored, because that would flip scripts and the side of the road. Random values come from torch's
    global generator.
    """

    def __init__(self, *, photos: Photos, masks_folder: Path, encoder: Encoder, label_grid: int) -> None:
        self.photos, self.encoder, self.label_grid = photos, encoder, label_grid
        self.size = encoder.settings.image_size
        self._masks = dataset([str(path) for path in sorted(masks_folder.glob("*.parquet"))])
        square = (self.size, self.size)
        self._augment = kornia.AugmentationSequential(
            kornia.RandomResizedCrop(square, scale=(0.6, 1.0), ratio=(0.9, 1.1), cropping_mode="resample"),
            kornia.ColorJiggle(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.02, p=0.8),
            kornia.RandomGaussianBlur((5, 5), (0.1, 1.5), p=0.2),
            data_keys=[DataKey.INPUT, DataKey.MASK],
            extra_args={DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": None}},
        )

    def read(self, rows: NDArray[np.int64]) -> Squares:
        """The photos and label maps of `rows`, decoded and cropped."""
        photos = [np.asarray(square_crop(decode_image(data), self.size)) for data in self.photos.take(rows)]
        masks = [np.asarray(decode_png(png)) for png in self._masks.take(rows, columns=["mask"])["mask"].to_pylist()]
        return Squares(
            photos_bchw=torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2),
            label_maps_bhw=torch.from_numpy(np.ascontiguousarray(resize_labels(np.stack(masks), self.size))),
        )

    def views(self, squares: Squares) -> ViewBatch:
        """Both views after augmentation: they share one random crop; colour and blur change the photo only."""
        device = self.encoder.device
        with torch.no_grad():
            photos_bchw, maps_b1hw = self._augment(
                squares.photos_bchw.to(device).float() / 255, squares.label_maps_bhw.to(device).float()[:, None]
            )
        pooled_bd, tokens_btd = self.encoder.encode_squares(255 * photos_bchw)
        middle = (2 * torch.arange(self.label_grid, device=device) + 1) * self.size // (2 * self.label_grid)
        label_maps_bgg = maps_b1hw[:, 0][:, middle[:, None], middle].round().to(torch.uint8)
        # Tensors created in inference mode cannot take part in training; their clones can.
        return ViewBatch(pooled_bd.clone(), tokens_btd.clone(), label_maps_bgg)
