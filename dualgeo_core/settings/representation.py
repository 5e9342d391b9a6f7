"""Settings of Stage 1 up to the trained representations: segmenter, encoder, model and training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dualgeo_core.settings.base import InnerShare, Positive, Section, Seed, Share, Text, ViewSettings

Representation = Literal[
    "encoder", "mask_only", "image_only", "concatenation", "cross_attention", "late_fusion", "joint"
]
# The shape of GeoCLIP's published GPS encoder.
GEOCLIP: dict[str, Any] = {
    "width": 512,
    "gps_hidden": 1024,
    "projection": "equal_earth",
    "fourier_sigmas": (1.0, 16.0, 256.0),
}


class SegmenterSettings(ViewSettings):
    kind: Literal["segformer", "codebook"] = "segformer"
    name: Text = Field(
        "nvidia/segformer-b5-finetuned-ade-640-640", description="Hub name or folder of a SegFormer checkpoint."
    )
    revision: Text | None = Field(None, description="Commit of the hub repository; None: the latest.")
    image_size: Positive = Field(640, description="Side of the segmenter's square input in pixels.")
    mask_size: Positive = Field(128, description="Side of the stored label map in pixels.")
    batch_size: Positive = 8
    codebook_classes: int = Field(48, ge=2, le=255, description="Number of k-means clusters (codebook only).")
    codebook_photos: Positive = Field(2000, description="Number of gallery photos for fitting the codebook.")
    codebook_seed: Seed = Field(0, description="Random seed for the codebook's photos and k-means.")


class EncoderSettings(ViewSettings):
    name: Text = Field(
        "openai/clip-vit-large-patch14",
        description="Hub name or folder of a transformers vision model, or efficientnet-lite0 (offline).",
    )
    revision: Text | None = Field(None, description="Commit of the hub repository; None: the latest.")
    image_size: Positive = Field(224, description="Side of the encoder's square input in pixels.")
    token_grid: Positive = Field(4, description="Side of the token grid after average pooling.")
    batch_size: Positive = 32


class ModelSettings(Section):
    variants: tuple[Representation, ...] = Field(
        ("joint",), description="Representations to train and compare; `encoder` needs no training."
    )
    main: Representation = Field("joint", description="Representation used for answers; one of `variants`.")
    width: int = Field(512, ge=8, description="Width of the tokens and of the joint embedding space.")
    heads: Positive = Field(8, description="Attention heads; a divisor of `width`.")
    layers: Positive = Field(1, description="Number of bidirectional cross-attention layers.")
    dropout: float = Field(0.1, ge=0, lt=1)
    label_grid: int = Field(
        32, gt=0, multiple_of=8, description="Side of the model's label-map input (nearest-neighbour resized)."
    )
    projection: Literal["equal_earth", "unit_sphere"] = Field(
        "equal_earth", description="Projection of the GPS encoder's input."
    )
    fourier_sigmas: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0, 16.0, 256.0), min_length=1, description="Scales of the random Fourier features."
    )
    gps_hidden: Positive = Field(1024, description="Width of the GPS encoder's hidden layers.")
    gps_weights: Literal["random", "geoclip"] = Field(
        "random", description="Initial weights of the GPS encoder; geoclip: those of the PyPI package geoclip."
    )
    whitening: Share = Field(
        0.5,
        description="Strength of whitening per view before retrieval: 0 = plain cosine, 1 = full whitening.",
    )

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}; change one of them")
        if len(set(self.variants)) < len(self.variants):
            raise ValueError(f"variants names a representation twice: {', '.join(self.variants)}; remove one")
        misfits = [name for name, value in GEOCLIP.items() if getattr(self, name) != value]
        if self.gps_weights == "geoclip" and misfits:
            wanted = ", ".join(f"{name} {GEOCLIP[name]}" for name in misfits)
            raise ValueError(f"gps_weights geoclip needs {wanted}; set that, or gps_weights to random")
        return self


class TrainingSettings(Section):
    epochs: Positive = Field(10, description="Maximum number of epochs.")
    batch_size: int = Field(
        256, ge=2, description="Photos per step over all processes; a smaller batch needs less memory."
    )
    learning_rate: float = Field(3e-5, gt=0, description="Peak learning rate (AdamW).")
    weight_decay: float = Field(1e-6, ge=0)
    warmup_share: Share = Field(0.05, description="Share of steps with linear learning-rate warm-up.")
    mask_loss_weight: float = Field(
        1.0, ge=0, description="Weight of the mask-GPS InfoNCE loss; image-GPS and joint-GPS have 1."
    )
    relit_share: Share = Field(
        0.0, description="Share of photos that a training step reads from a relit copy; 0 = clean photos only."
    )
    gps_queue: int = Field(4096, ge=0, description="Number of extra GPS negatives kept from earlier steps.")
    soft_target_km: float = Field(
        0.0, ge=0, description="Distance in km within which photos share their target; 0 = hard targets."
    )
    validation_share: InnerShare = Field(
        0.1, description="Share of gallery photographers held out for choosing the checkpoint."
    )
    validation_seed: Seed = Field(
        0, description="Random seed for the held-out photographers; the refiner is fitted on them."
    )
    patience: Positive = Field(3, description="Epochs without better validation retrieval before training stops early.")
    precision: Literal["no", "fp16", "bf16"] = "no"
    processes: Positive = Field(1, description="Number of training processes, e.g. one per GPU.")
    recompute: bool = Field(
        False, description="Encode augmented photos in every step instead of reading stored features; slow."
    )
    shuffle_photos: Positive = Field(
        131_072,
        description="Photos that are shuffled together. A larger gallery is read from disk in parts of this size; "
        "two parts should fit into free memory.",
    )
    readers: int | None = Field(
        None,
        ge=0,
        description="Processes that read the batches of a training process ahead; 0: none, it reads them itself. "
        "None: up to 3 on a CUDA GPU, otherwise 0; training.recompute can use more.",
    )
    checkpoint_minutes: float = Field(10.0, gt=0, description="Largest time between checkpoints in minutes.")
    seed: Seed = Field(
        0, description="Random seed for initial weights, data order and dropout; a new seed trains a new model."
    )

    @model_validator(mode="after")
    def _every_process_has_photos(self) -> Self:
        if self.batch_size < self.processes:
            raise ValueError(
                f"batch_size {self.batch_size} is below processes {self.processes}; raise batch_size or lower processes"
            )
        return self
