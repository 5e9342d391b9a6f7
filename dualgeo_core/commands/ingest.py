"""`dualgeo ingest ...`: makes a photo set of a folder, of a table beside images, or of the synthetic Earth."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dualgeo_core.settings import PhotoSettings

Out = Annotated[Path, typer.Option("--out", help="Folder of the new photo set, e.g. data/my_photos.")]
MaxQuarantineShare = Annotated[
    float, typer.Option(min=0, max=1, help="Share of unusable photos past which the set is refused.")
]
DEFAULT_SHARE: float = PhotoSettings.model_fields["max_quarantine_share"].default

ingest = typer.Typer(
    no_args_is_help=True,
    help="Makes a photo set: Parquet shards, set.json, and quarantine.csv with the reason of every unusable photo.",
)


@ingest.command("folder")
def ingest_folder(
    folder: Annotated[Path, typer.Argument(help="Folder of JPEG, PNG or HEIC files with GPS in their EXIF.")],
    out: Out,
    max_quarantine_share: MaxQuarantineShare = DEFAULT_SHARE,
) -> None:
    """Photos that know where they were taken.

    The author is EXIF's artist, else the name of the topmost subfolder; gallery and queries are split by author.
    A killed run goes on where it stopped.
    """
    from dualgeo_core.photos.ingest import ingest_folder as run
    from dualgeo_core.progress import spoken

    _tell(out, run(folder=folder, out=out, max_quarantine_share=max_quarantine_share, progress=spoken(typer.echo)))


@ingest.command("csv")
def ingest_csv(
    table: Annotated[Path, typer.Argument(help="CSV with the columns id, latitude, longitude and, if known, author.")],
    images: Annotated[Path, typer.Argument(help="Folder with the images; an id is a file's name there.")],
    out: Out,
    max_quarantine_share: MaxQuarantineShare = DEFAULT_SHARE,
) -> None:
    """Photos whose places are listed in a table. A killed run goes on where it stopped."""
    from dualgeo_core.photos.ingest import ingest_csv as run
    from dualgeo_core.progress import spoken

    manifest = run(
        table=table, images=images, out=out, max_quarantine_share=max_quarantine_share, progress=spoken(typer.echo)
    )
    _tell(out, manifest)


def _tell(out: Path, manifest: dict[str, Any]) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in manifest["quarantine_reasons"].items())
    kept_out = f"; {manifest['quarantined']} in {out / 'quarantine.csv'}: {reasons}" if reasons else ""
    typer.echo(f"{out}: {manifest['photos']} photos in {len(manifest['shards'])} shards{kept_out}")
