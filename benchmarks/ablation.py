"""Ablation of Stage 1: nearest-neighbour accuracy by variant, relighting, retrieval vector, loss and GPS projection.

    python benchmarks/ablation.py                                   # the synthetic Earth, with 400 queries per set
    python benchmarks/ablation.py --earth 11 --tables 1             # another Earth
    dualgeo ingest csv photos.csv photos/ --out data/folder         # real photos, split by photographer
    python benchmarks/ablation.py --profile folder

Builds missing inputs (photo sets of the Earth, masks, features), trains every row with every seed, and prints Markdown
tables. A killed run resumes. Every row and seed is an MLflow run in the experiment `ablation`. The 95 % intervals
resample query photographers and seeds together. A difference is computed on the same queries and resamples.
"""

import argparse
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dualgeo_core.base.artifacts import Artifact
from dualgeo_core.base.files import fingerprint
from dualgeo_core.base.frames import read_table, write_table
from dualgeo_core.base.geo import haversine_km
from dualgeo_core.base.progress import spoken
from dualgeo_core.earth.ingest import ingest_synthetic
from dualgeo_core.model.embed import embed, retrieval_views
from dualgeo_core.model.fusion import DualViewModel
from dualgeo_core.model.retrieval_head import RetrievalViews
from dualgeo_core.model.tokens import PATCH
from dualgeo_core.model.trainer import train
from dualgeo_core.model.validation import Light, fit_retrieval_head, shift
from dualgeo_core.photos.photo_set import MANIFEST
from dualgeo_core.photos.photographers import split_by_photographer
from dualgeo_core.pipeline import stage1
from dualgeo_core.pipeline.opening import open_relit_views, open_views, profile_device
from dualgeo_core.pipeline.workspace import GALLERY, Workspace
from dualgeo_core.settings import (
    EarthPart,
    EarthSettings,
    ModelSettings,
    Profile,
    Representation,
    Settings,
    TrainingSettings,
    load_settings,
)
from dualgeo_core.views.store import ViewBatch, Views
from dualgeo_dagster.mlflow.store import local_store
from dualgeo_dagster.settings import keep_libraries_quiet

EARTH_GALLERY, EARTH_QUERIES = 2400, 400
RADII_KM = (1, 25, 200, 750, 2500)
RESAMPLES = 2000


@dataclass(frozen=True)
class Row:
    """One row of a table: a representation, and the settings in which it differs from the profile."""

    name: str
    variant: Representation = "joint"
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    relit: bool = True  # whether training, retrieval vector and validation know relit photos
    mask_noise: float = 0.0  # share of label-map patches that get a random class, in gallery and queries
    refits: str | None = None  # name of the row whose trained model is used with another retrieval head


TABLES: dict[str, tuple[str, tuple[Row, ...]]] = {
    "Variants, compared with concatenation": (
        "concatenation",
        (
            Row("encoder", variant="encoder"),
            Row("mask only", variant="mask_only"),
            Row("image only", variant="image_only"),
            Row("concatenation", variant="concatenation"),
            Row("cross-attention", variant="cross_attention"),
            Row("late fusion (control)", variant="late_fusion"),
            Row("joint"),
            Row("no relighting", relit=False),
        ),
    ),
    "Training light and masks, compared with joint": (
        "joint",
        (
            Row("mask noise", mask_noise=0.2),
            Row("trained on relit photos", training={"relit_share": 0.5, "epochs": 20}),
        ),
    ),
    "Retrieval vector, compared with joint": (
        "joint",
        (
            Row("no whitening", model={"whitening": 0.0}, refits="joint"),
            Row("half whitening", model={"whitening": 0.5}, refits="joint"),
            Row("full whitening", model={"whitening": 1.0}, refits="joint"),
        ),
    ),
    "Losses, compared with joint": (
        "joint",
        (
            Row("no GPS queue", training={"gps_queue": 0}),
            Row("hard targets", training={"soft_target_km": 0.0}),
            Row("soft targets of 25 km", training={"soft_target_km": 25.0}),
            Row("mask loss at a quarter", training={"mask_loss_weight": 0.25}),
        ),
    ),
    "GPS projection, compared with unit sphere": (
        "joint",
        (Row("Equal Earth", model={"projection": "equal_earth"}),),
    ),
}


class Ablation:
    """The results of all rows for one profile: distances of each query to its nearest neighbour, and tables."""

    def __init__(self, workspace: Workspace, folder: Path, seeds: int, tracking_uri: str) -> None:
        self.workspace, self.folder, self.seeds, self.tracking_uri = workspace, folder, seeds, tracking_uri
        names = [GALLERY, *workspace.profile.photos.benchmarks]
        for name in names:
            stage1.make_features(workspace, name, progress=say)
            stage1.make_masks(workspace, name, progress=say)
        stage1.make_relit_views(workspace, progress=say)
        self.views: dict[str, Views] = {name: open_views(workspace, name) for name in names}
        self.relit = open_relit_views(workspace, self.views[GALLERY])
        self.benchmarks = names[1:]

    def distances(self, row: Row) -> dict[str, NDArray[np.float64]]:
        """Distances (seeds, queries) in km by benchmark; computed once and saved."""
        runs = [self._run(row, seed) for seed in range(self.seeds)]
        return {
            name: np.stack([run.loc[run["benchmark"] == name, "distance_km"].to_numpy() for run in runs])
            for name in self.benchmarks
        }

    def _run(self, row: Row, seed: int) -> pd.DataFrame:
        profile = with_differences(self.workspace.profile, row, seed)
        views = [*self.views.values(), *self.relit]
        parts = [asdict(row), profile.model.model_dump(), profile.training.model_dump()]
        recipe = fingerprint(parts, [v.fingerprint for v in views])
        artifact = Artifact(self._seed_folder(row.name, seed) / "distances", step="ablation", recipe=recipe, inputs={})
        if not artifact.is_current():
            model = self._model(row, seed, profile)
            found = pd.concat([self._search(row, model, name) for name in self.benchmarks])
            self._track(row, seed, profile, found)
            write_table(artifact, found)
            say(f"{row.name}, seed {seed}", 1, 1)
        return read_table(artifact)

    def _model(self, row: Row, seed: int, profile: Profile) -> DualViewModel | None:
        if row.variant == "encoder":
            return None
        folder = self._seed_folder(row.refits or row.name, seed) / "model"
        if row.refits is None:
            train(
                views=self._seen(row, GALLERY),
                relit=self._relit(row),
                profile=profile,
                variant=row.variant,
                folder=folder,
                progress=say,
            )
        model = DualViewModel.from_pretrained(folder).to(profile_device(profile))
        if row.refits is not None:
            self._refit(row, model, profile)
        return model

    def _refit(self, row: Row, model: DualViewModel, profile: Profile) -> None:
        views, device = self._seen(row, GALLERY), profile_device(profile)
        split = split_by_photographer(views.frame, profile.training)

        def seen(views: Views, rows: NDArray[np.int64]) -> RetrievalViews:
            pieces = [retrieval_views(model, views.batch(part), device) for part in np.array_split(rows, 8)]
            return RetrievalViews._make(torch.cat(x) if x[0] is not None else None for x in zip(*pieces, strict=True))

        held_out = Light(seen(views, split.queries))
        for relit in self._relit(row)[:1]:
            moved = shift(views.pooled(split.gallery), relit.pooled(split.gallery)).to(device)
            held_out = Light(held_out.clean, seen(relit, split.queries), encoder_shift=moved)
        fit_retrieval_head(
            head=model.retrieval_head,
            gallery_views=seen(views, split.gallery),
            held_out=held_out,
            gallery=views.frame.iloc[split.gallery],
            queries=views.frame.iloc[split.queries],
            whitening=profile.model.whitening,
        )

    def _seen(self, row: Row, name: str) -> Views:
        """The views of a photo set as the row sees them."""
        return with_mask_noise(self.views[name], row.mask_noise) if row.mask_noise else self.views[name]

    def _relit(self, row: Row) -> tuple[Views, ...]:
        if not row.relit:
            return ()
        return tuple(with_mask_noise(views, row.mask_noise) for views in self.relit) if row.mask_noise else self.relit

    def _search(self, row: Row, model: DualViewModel | None, benchmark: str) -> pd.DataFrame:
        device = profile_device(self.workspace.profile)
        gallery, queries = (
            embed(model=model, views=self._seen(row, name), variant=row.variant, device=device).search_nd
            for name in (GALLERY, benchmark)
        )
        frame = self.views[benchmark].frame
        nearest = self.views[GALLERY].frame.iloc[(queries @ gallery.T).argmax(axis=1)]
        distance = haversine_km(frame["latitude"], frame["longitude"], nearest["latitude"], nearest["longitude"])
        return pd.DataFrame({"benchmark": benchmark, "id": frame["id"], "distance_km": np.asarray(distance)})

    def _track(self, row: Row, seed: int, profile: Profile, found: pd.DataFrame) -> None:
        import mlflow

        mlflow.set_tracking_uri(self.tracking_uri)
        mlflow.set_experiment("ablation")
        with mlflow.start_run(run_name=f"{profile.name}: {row.name}, seed {seed}"):
            mlflow.log_params({"row": row.name, "variant": row.variant, "profile": profile.name})
            mlflow.log_params(profile.model.model_dump(exclude={"variants", "main"}) | profile.training.model_dump())
            for benchmark, part in found.groupby("benchmark"):
                hits = {f"{benchmark}/acc_{r}km": 100 * float((part["distance_km"] <= r).mean()) for r in RADII_KM}
                mlflow.log_metrics(hits)

    def _seed_folder(self, name: str, seed: int) -> Path:
        return self.folder / name.replace(" ", "_") / f"seed-{seed}"

    def table(self, title: str, base: str, rows: tuple[Row, ...]) -> str:
        """A Markdown table: accuracies averaged over seeds, and at 25 km the interval and the difference to `base`."""
        lines = [
            f"### {title} (seeds: {self.seeds})",
            "",
            "| queries | representation | 1 km | 25 km | 200 km | 750 km | 2500 km | 25 km, 95 % | 25 km, difference |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for benchmark in self.benchmarks:
            frame = self.views[benchmark].frame
            authors = frame["author"].fillna(frame["id"]).astype("category").cat.codes.to_numpy()
            reference = self.distances(ROWS[base])[benchmark] <= 25
            for row in rows:
                distance = self.distances(row)[benchmark]
                hits = distance <= 25
                low, high = interval(hits, authors)
                accuracy = " | ".join(f"{100 * (distance <= radius).mean():.1f}" for radius in RADII_KM)
                change = "" if row.name == base else difference(hits, reference, authors)
                queries = benchmark.replace("_", " ") if row is rows[0] else ""
                lines.append(f"| {queries} | {row.name} | {accuracy} | {low:.1f} to {high:.1f} | {change} |")
        return "\n".join([*lines, ""])


def difference(hits: NDArray[np.bool_], reference: NDArray[np.bool_], authors: NDArray[np.integer[Any]]) -> str:
    """Mean and 95 % interval, in percentage points, of the gain of `hits` (seeds, queries) over `reference`."""
    gain = hits.astype(float) - reference
    low, high = interval(gain, authors)
    return f"{100 * gain.mean():+.1f} ({low:+.1f} to {high:+.1f})"


def interval(values_sq: NDArray[Any], authors: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """The 95 % interval of the mean in percent, by resampling photographers (with all their queries) and seeds."""
    random = np.random.default_rng(0)
    seeds, photographers = len(values_sq), int(authors.max()) + 1
    sums = np.stack([np.bincount(authors, weights=row, minlength=photographers) for row in values_sq.astype(float)])
    counts = np.bincount(authors, minlength=photographers)
    means = []
    for _ in range(RESAMPLES):
        chosen = random.integers(photographers, size=photographers)
        which = random.integers(seeds, size=seeds)
        means.append(sums[np.ix_(which, chosen)].mean(axis=0).sum() / counts[chosen].sum())
    low, high = np.percentile(100 * np.array(means), [2.5, 97.5])
    return float(low), float(high)


def with_differences(profile: Profile, row: Row, seed: int) -> Profile:
    """The profile with the settings of `row` and `seed`."""
    model = ModelSettings(**{**profile.model.model_dump(), **row.model})
    training = TrainingSettings(
        **{**profile.training.model_dump(), **row.training, "seed": seed, "validation_seed": seed}
    )
    return profile.model_copy(update={"model": model, "training": training})


def with_mask_noise(views: Views, share: float) -> Views:
    """The same photos with worse masks: each patch of 4 x 4 cells gets a random class with probability `share`."""

    def noisy(number: int, shard: ViewBatch) -> ViewBatch:
        random = torch.Generator().manual_seed(number)
        maps_nhw = shard.label_maps_bhw
        patches = (len(maps_nhw), views.label_grid // PATCH, views.label_grid // PATCH)
        wrong = torch.rand(patches, generator=random) < share
        classes = torch.randint(views.classes, patches, generator=random, dtype=torch.uint8)
        wrong, classes = (x.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2) for x in (wrong, classes))
        return shard._replace(label_maps_bhw=torch.where(wrong, classes, maps_nhw))

    shards = tuple(noisy(number, shard) for number, shard in enumerate(views.shards))
    return replace(views, shards=shards, fingerprint=fingerprint(views.fingerprint, "mask noise", share))


def ingest_earth(settings: Settings, seed: int) -> None:
    """Writes the photo sets of the synthetic Earth, with more queries than the demo."""
    parts: tuple[EarthPart, ...] = ("same_weather", "other_weather", "night", "other_season")
    counts: dict[EarthPart, int] = {"gallery": EARTH_GALLERY, **dict.fromkeys(parts, EARTH_QUERIES)}
    for part, photos in counts.items():
        out = settings.data / f"earth_{part}"
        if not (out / MANIFEST).is_file():
            ingest_synthetic(earth=EarthSettings(seed=seed), part=part, photos=photos, out=out, progress=say)


say = spoken(print, every_s=20)
ROWS = {row.name: row for _, rows in TABLES.values() for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="demo", help="name of the profile to train")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds per row")
    parser.add_argument("--earth", type=int, default=EarthSettings().seed, help="seed of the synthetic Earth (demo)")
    parser.add_argument("--tables", type=int, default=3, help=f"number of tables to compute, of {len(TABLES)}")
    arguments = parser.parse_args()
    keep_libraries_quiet()
    settings = load_settings(arguments.profile)
    tracking_uri = local_store(settings.home).tracking_uri
    folder = settings.home / "artifacts" / "ablation"
    if arguments.profile == "demo":
        folder = folder / f"earth-{arguments.earth}"
        settings = settings.model_copy(update={"home": folder})
        ingest_earth(settings, arguments.earth)
    workspace = Workspace(settings)
    stage1.make_segmenter(workspace, progress=say)
    ablation = Ablation(workspace, folder / arguments.profile, arguments.seeds, tracking_uri)
    for title, (base, rows) in list(TABLES.items())[: arguments.tables]:
        print(ablation.table(title, base, rows), flush=True)


if __name__ == "__main__":
    main()
