"""`dualgeo train-segmenter`: trains the tiny SegFormer that segments the synthetic Earth without a model hub."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def train_segmenter(
    photo_set: Annotated[Path, typer.Argument(help="Photo set with true label maps (`dualgeo ingest synthetic`).")],
    out: Annotated[Path, typer.Option(help="Folder of the new checkpoint.")],
    without: Annotated[
        list[Path] | None,
        typer.Option(help="Photo set whose photographers are excluded, e.g. a benchmark; repeatable."),
    ] = None,
    held_out_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of photographers held out for scoring.")
    ] = 0.2,
    image_size: Annotated[int, typer.Option(min=32, help="Side of the segmenter's input (pixels).")] = 128,
    mask_size: Annotated[int, typer.Option(min=8, help="Side of the scored label maps (pixels).")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Training epochs.")] = 12,
    seed: Annotated[int, typer.Option(help="Random seed for initial weights and data order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Trains a tiny SegFormer (0.4 M weights) on drawn streets, and scores it on photos of held-out photographers.

    For the checkpoint in models/earth-segformer, its README.md lists the training commands and the scores.
    """
    import json

    import torch

    from dualgeo_core.base.progress import spoken
    from dualgeo_core.base.targets import check_folder_target
    from dualgeo_core.earth.canvas import CLASSES
    from dualgeo_core.photos.photo_set import Photos, open_photos
    from dualgeo_core.settings import PhotoSource, SegmenterSettings
    from dualgeo_core.views.segmenter_training import train_segmenter as run

    check_folder_target(out)
    torch.set_num_threads(threads)

    def photos(folder: Path, part: Literal["all", "gallery", "queries"]) -> Photos:
        folder = folder.resolve()
        source = PhotoSource(photo_set=folder.name, part=part, query_share=held_out_share)
        return open_photos(source, folder.parent)

    scores = run(
        photos=photos(photo_set, "gallery"),
        held_out=photos(photo_set, "queries"),
        class_names=CLASSES,
        settings=SegmenterSettings(name=str(out), image_size=image_size, mask_size=mask_size),
        folder=out,
        epochs=epochs,
        seed=seed,
        without=frozenset(author for folder in without or [] for author in photos(folder, "all").frame["author"]),
        progress=spoken(typer.echo),
    )
    typer.echo(json.dumps(scores, indent=2))
