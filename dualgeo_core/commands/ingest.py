"""`dualgeo ingest`: writes a photo set from a folder, a table and its images, or the synthetic Earth."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dualgeo_core.photos.published_sets import PLAIN, PUBLISHED, PublishedSet, TableFormat
from dualgeo_core.settings import EarthPart, EarthSettings, IngestSettings

Out = Annotated[Path, typer.Option("--out", help="Folder of the photo set to write, e.g. data/my_photos.")]
MaxQuarantineShare = Annotated[float, typer.Option(min=0, max=1, help="Largest accepted share of unusable photos.")]
Add = Annotated[
    bool, typer.Option("--add", help="Add photos with new ids to the set at --out; its photos stay unchanged.")
]
ShortSide = Annotated[
    int | None,
    typer.Option("--short-side", min=32, help="Re-encodes photos whose short side has more pixels, as JPEG."),
]
Swapped = Annotated[
    bool | None,
    typer.Option(
        "--swapped/--not-swapped",
        help="Whether the table's latitude and longitude are exchanged. By default, a table that seems so is refused.",
    ),
]
EARTH = EarthSettings()
DEFAULT_SHARE: float = IngestSettings().max_quarantine_share

ingest = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Writes a photo set: Parquet shards, set.json, and quarantine.csv with the reason for every unusable photo.",
)


@ingest.command("folder")
def ingest_folder(
    folder: Annotated[
        Path, typer.Argument(help="Folder of JPEG, PNG, HEIC or WebP files with GPS in their EXIF or XMP.")
    ],
    out: Out,
    max_quarantine_share: MaxQuarantineShare = DEFAULT_SHARE,
    add: Add = False,
) -> None:
    """Imports photos that have GPS in their EXIF or XMP.

    The author is the EXIF artist, otherwise the name of the topmost subfolder. Gallery and queries are split by author.
    A killed run resumes.
    """
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.photos.ingest import ingest_folder as run

    _announce(out, add=add)
    manifest = run(
        folder=folder, out=out, max_quarantine_share=max_quarantine_share, add=add, progress=spoken(typer.echo)
    )
    _report(out, manifest, add=add)


@ingest.command("csv")
def ingest_csv(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns id, latitude, longitude and, if known, author (or IMG_ID, LAT, LON)."
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Folder, .zip, or uncompressed .tar of the images; of a split tar, all parts in their order. "
            "Each id is the name of a file in it."
        ),
    ],
    out: Out,
    max_quarantine_share: MaxQuarantineShare = DEFAULT_SHARE,
    short_side: ShortSide = None,
    swapped: Swapped = None,
    add: Add = False,
) -> None:
    """Imports photos whose positions are listed in a table. A killed run resumes."""
    _ingest_table(PLAIN, table, images, out, max_quarantine_share, short_side, swapped, add)


def _published_command(published: PublishedSet) -> Callable[..., None]:
    """The command that imports a published photo set."""

    def command(
        table: Annotated[Path, typer.Argument(help=published.table)],
        images: Annotated[list[Path], typer.Argument(help=published.images)],
        out: Out,
        max_quarantine_share: MaxQuarantineShare = DEFAULT_SHARE,
        short_side: ShortSide = None,
        swapped: Swapped = None,
        add: Add = False,
    ) -> None:
        _ingest_table(published.form, table, images, out, max_quarantine_share, short_side, swapped, add)

    return command


for _name, _published in PUBLISHED.items():
    _help = f"{_published.about}\n\nA killed run resumes. docs/datasets.md says where the files are."
    ingest.command(_name, help=_help)(_published_command(_published))


@ingest.command("synthetic")
def ingest_synthetic(
    out: Out,
    part: Annotated[EarthPart, typer.Option(help="Gallery, or queries taken in these conditions.")],
    photos: Annotated[int, typer.Option(min=1, help="Number of photos.")],
    seed: Annotated[int, typer.Option(help="Random seed for countries, cities and streets.")] = EARTH.seed,
    countries: Annotated[int, typer.Option(min=1, help="Real countries, drawn by population.")] = EARTH.countries,
    cities: Annotated[int, typer.Option(min=1, help="Real cities per country.")] = EARTH.cities,
    cells: Annotated[int, typer.Option(min=1, help="Streets per city, over 1 km apart.")] = EARTH.cells,
    image_size: Annotated[int, typer.Option(min=32, max=1024, help="Side of a photo (pixels).")] = EARTH.image_size,
) -> None:
    """Draws photos of the synthetic Earth: streets of real cities, with true label maps. For testing the software only.

    Parts of one Earth (same seed, countries, cities, cells) share streets, but no photographers. `mixed` has photos in
    all conditions, for training a segmenter.
    """
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.earth.ingest import ingest_synthetic as run

    earth = EarthSettings(seed=seed, countries=countries, cities=cities, cells=cells, image_size=image_size)
    _report(out, run(earth=earth, part=part, photos=photos, out=out, progress=spoken(typer.echo)))


def _ingest_table(
    form: TableFormat,
    table: Path,
    images: list[Path],
    out: Path,
    max_quarantine_share: float,
    short_side: int | None,
    swapped: bool | None,
    add: bool,
) -> None:
    from dualgeo_core.base.progress import spoken
    from dualgeo_core.photos.ingest import ingest_csv as run

    _announce(out, add=add)
    manifest = run(
        table=table,
        images=images,
        out=out,
        form=form,
        max_quarantine_share=max_quarantine_share,
        short_side=short_side,
        swapped=swapped,
        add=add,
        progress=spoken(typer.echo),
    )
    _report(out, manifest, add=add)


def _announce(out: Path, *, add: bool) -> None:
    from dualgeo_core.base.files import read_json
    from dualgeo_core.photos.photo_set import MANIFEST

    if not add and (out / MANIFEST).is_file():
        typer.echo(f"{out} holds {read_json(out / MANIFEST)['photos']} photos, which are replaced (--add keeps them)")


def _report(out: Path, manifest: dict[str, Any], *, add: bool = False) -> None:
    if manifest.get("not_read"):
        typer.echo(f"not read, because only JPEG, PNG, HEIC and WebP are photos: {manifest['not_read']}")
    if add and not manifest["added"]:
        typer.echo(f"{out}: no new photos, {manifest['already_there']} already present; the set is unchanged")
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in manifest["quarantine_reasons"].items())
    unusable = f"; {manifest['quarantined']} unusable ({reasons}), see {out / 'quarantine.csv'}" if reasons else ""
    added = f", {manifest['added']} of them new; {manifest['already_there']} already present" if add else ""
    typer.echo(f"{out}: {manifest['photos']} photos in {len(manifest['shards'])} shards{added}{unusable}")
