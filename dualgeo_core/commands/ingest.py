"""`dualgeo ingest ...`: makes a photo set of a folder, of a table beside images, or of the synthetic Earth."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dualgeo_core.settings import EarthSettings, IngestSettings

Out = Annotated[Path, typer.Option("--out", help="Folder of the new photo set, e.g. data/my_photos.")]
MaxQuarantineShare = Annotated[
    float, typer.Option(min=0, max=1, help="Share of unusable photos past which the set is refused.")
]
Add = Annotated[
    bool, typer.Option("--add", help="Add to the set at --out the photos whose id it has not; its shards stay as is.")
]
EARTH = EarthSettings()
DEFAULT_SHARE: float = IngestSettings().max_quarantine_share

EarthPart = Literal["gallery", "same_weather", "other_weather", "night", "other_season", "mixed"]

ingest = typer.Typer(
    no_args_is_help=True,
    help="Makes a photo set: Parquet shards, set.json, and quarantine.csv with the reason of every unusable photo.",
)


@ingest.command("folder")
def ingest_folder(
    folder: Annotated[Path, typer.Argument(help="Folder of JPEG, PNG or HEIC files with GPS in their EXIF.")],
    out: Out,
    max_quarantine_share: MaxQuarantineShare = DEFAULT_SHARE,
    add: Add = False,
) -> None:
    """Photos that know where they were taken.

    The author is EXIF's artist, else the name of the topmost subfolder; gallery and queries are split by author.
    A killed run goes on where it stopped.
    """
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.photos.ingest import ingest_folder as run

    _announce(out, add=add)
    manifest = run(
        folder=folder, out=out, max_quarantine_share=max_quarantine_share, add=add, progress=spoken(typer.echo)
    )
    _tell(out, manifest, add=add)


@ingest.command("csv")
def ingest_csv(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns id, latitude, longitude and, if known, author (or IMG_ID, LAT, LON)."
        ),
    ],
    images: Annotated[
        Path, typer.Argument(help="Folder or uncompressed .tar of the images; an id is a file's name there.")
    ],
    out: Out,
    max_quarantine_share: MaxQuarantineShare = DEFAULT_SHARE,
    add: Add = False,
) -> None:
    """Photos whose places are listed in a table. A killed run goes on where it stopped."""
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.photos.ingest import ingest_csv as run

    _announce(out, add=add)
    manifest = run(
        table=table,
        images=images,
        out=out,
        max_quarantine_share=max_quarantine_share,
        add=add,
        progress=spoken(typer.echo),
    )
    _tell(out, manifest, add=add)


@ingest.command("synthetic")
def ingest_synthetic(
    out: Out,
    part: Annotated[EarthPart, typer.Option(help="The gallery, or queries by the conditions they are taken in.")],
    photos: Annotated[int, typer.Option(min=1, help="How many photos.")],
    seed: Annotated[int, typer.Option(help="Chooses the countries, cities and streets.")] = EARTH.seed,
    countries: Annotated[int, typer.Option(min=1, help="Real countries, drawn by population.")] = EARTH.countries,
    cities: Annotated[int, typer.Option(min=1, help="Real cities per country.")] = EARTH.cities,
    cells: Annotated[int, typer.Option(min=1, help="Streets per city, over 1 km apart.")] = EARTH.cells,
    image_size: Annotated[int, typer.Option(min=32, max=1024, help="Pixels per side.")] = EARTH.image_size,
) -> None:
    """Photos of the synthetic Earth: drawn streets of real cities, with true label maps. Tests the machinery only.

    Parts of one Earth (same seed, countries, cities, cells) share streets, never photographers. `mixed` takes all
    conditions: something to train a segmenter on.
    """
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.earth.ingest import ingest_synthetic as run

    earth = EarthSettings(seed=seed, countries=countries, cities=cities, cells=cells, image_size=image_size)
    _tell(out, run(earth=earth, part=part, photos=photos, out=out, progress=spoken(typer.echo)))


def _announce(out: Path, *, add: bool) -> None:
    from dualgeo_core.base.files import read_json
    from dualgeo_core.photos.photo_set import MANIFEST

    if not add and (out / MANIFEST).is_file():
        typer.echo(f"{out} holds {read_json(out / MANIFEST)['photos']} photos: they are replaced (--add keeps them)")


def _tell(out: Path, manifest: dict[str, Any], *, add: bool = False) -> None:
    if add and not manifest["added"]:
        typer.echo(f"{out}: no new photo, {manifest['already_there']} were already there; the set is as it was")
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in manifest["quarantine_reasons"].items())
    kept_out = f"; {manifest['quarantined']} in {out / 'quarantine.csv'}: {reasons}" if reasons else ""
    grown = f", {manifest['added']} of them new; {manifest['already_there']} were already there" if add else ""
    typer.echo(f"{out}: {manifest['photos']} photos in {len(manifest['shards'])} shards{grown}{kept_out}")
