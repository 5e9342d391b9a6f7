"""Whether doubt is true: coverage of the radii by stratum, and what happens to photos unlike the gallery.

    python benchmarks/doubt.py [--profile demo] [--seeds 3] [--unlike FOLDER]

Needs a finished run of the profile (`dualgeo run`). With every seed the main representation is trained again from
other initial weights with other photographers held out, and a refiner is fitted and calibrated on those. Prints
Markdown tables over all seeds: coverage by stratum, accuracy with and without the refusal of unlike photos, and the
share of the photos in FOLDER that are refused or get a 90 % radius over 2,000 km.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dualgeo_core.answering.locator import Locator
from dualgeo_core.base.progress import spoken
from dualgeo_core.evaluation.scores import evaluate
from dualgeo_core.evaluation.strata import coverage_by_stratum, worst_stratum
from dualgeo_core.photos.decode import UndecodableImage, decode_image
from dualgeo_core.photos.listing import list_folder
from dualgeo_core.pipeline import stage1, stage2
from dualgeo_core.pipeline.opening import open_answerer
from dualgeo_core.pipeline.report import photos_with_strata
from dualgeo_core.pipeline.workspace import Workspace
from dualgeo_core.settings import Settings, load_settings

SHARED = ("segmenter", "masks", "label_maps", "features", "relit_views")  # artifacts that no seed changes
FAR_KM = 2000
PHOTOS_AT_ONCE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--unlike", type=Path)
    arguments = parser.parse_args()
    strata, in_domain, unlike = [], [], []
    for seed in range(arguments.seeds):
        workspace = finished(load_settings(arguments.profile), seed)
        strata.append(photos_with_strata(workspace))
        in_domain += refusals(workspace)
        if arguments.unlike is not None:
            unlike.append({"seed": seed, **answers_to(arguments.unlike, workspace)})
    table = coverage_by_stratum(pd.concat(strata, ignore_index=True))
    show("Coverage by stratum, all seeds", table)
    show("Farthest from 90 %", worst_stratum(table))
    show("Refusal of photos of the benchmarks", pd.DataFrame(in_domain).groupby("benchmark", sort=False).mean())
    if unlike:
        show(f"Photos in {arguments.unlike}", pd.DataFrame(unlike).set_index("seed"))


def finished(settings: Settings, seed: int) -> Workspace:
    """The workspace of one seed, in which everything up to the predictions is made."""
    profile, original = settings.profile, settings.artifacts
    seeded = profile.model_copy(
        update={
            "name": f"{profile.name}_seed{seed}",
            "model": profile.model.model_copy(update={"variants": (profile.model.main,)}),
            "training": profile.training.model_copy(update={"seed": seed, "validation_seed": seed}),
        }
    )
    workspace = Workspace(Settings(profile=seeded, home=settings.home))
    for kind in SHARED:
        link = workspace.folder(kind)
        link.parent.mkdir(parents=True, exist_ok=True)
        if (original / kind).exists() and not link.exists():
            link.symlink_to(original / kind, target_is_directory=True)
    say = spoken(print)
    stage1.make_model(workspace, seeded.model.main, on_metrics=lambda step, metrics: None, progress=say)
    stage1.make_embeddings(workspace, seeded.model.main)
    stage1.make_index(workspace, seeded.model.main)
    print(stage2.make_refiner(workspace), flush=True)
    stage2.make_locator(workspace)
    for benchmark in seeded.photos.benchmarks:
        stage1.make_candidates(workspace, benchmark)
        stage2.make_lmm_answers(workspace, benchmark)
        stage2.make_predictions(workspace, benchmark)
    return workspace


def refusals(workspace: Workspace) -> list[dict[str, object]]:
    """The share of photos refused in each benchmark, and accuracy within 25 km with and without refusal (%)."""
    rows = []
    for benchmark in workspace.profile.photos.benchmarks:
        truth, found = workspace.photos(benchmark).frame, stage2.main_predictions(workspace, benchmark)
        kept = without_refusal(workspace, benchmark)
        scores = [evaluate(predictions=part, truth=truth, bootstrap_samples=1) for part in (found, kept)]
        rows.append(
            {
                "benchmark": benchmark,
                "refused (%)": 100 * float((found["status"] == "unlike_gallery").mean()),
                "within 25 km (%)": scores[0]["acc_25km"],
                "within 25 km without refusal (%)": scores[1]["acc_25km"],
            }
        )
    return rows


def without_refusal(workspace: Workspace, benchmark: str) -> pd.DataFrame:
    """The predictions of the main method if no photo is refused."""
    profile = workspace.profile
    refinement = profile.refinement.model_copy(update={"least_likeness": 0.0})
    answerer = replace(open_answerer(workspace), profile=profile.model_copy(update={"refinement": refinement}))
    return answerer.predictions(
        candidates=stage2.main_candidates(workspace, benchmark),
        answers=None,
        ids=workspace.photos(benchmark).frame["id"].tolist(),
    )


def answers_to(folder: Path, workspace: Workspace) -> dict[str, float]:
    """The share of a folder's photos that the seed's locator refuses, or gives a large radius."""
    paths = [folder / name for name in list_folder(folder).photos]
    refused = far = read = 0
    locator = Locator(workspace.locator)
    for start in range(0, len(paths), PHOTOS_AT_ONCE):
        images = []
        for path in paths[start : start + PHOTOS_AT_ONCE]:
            try:
                images.append(decode_image(path.read_bytes()))
            except UndecodableImage as error:
                print(f"{path}: {error}")
        for answer in locator.locate_images(names=[str(number) for number in range(len(images))], images=images):
            refused += answer.status == "unlike_gallery"
            far += answer.radius_90_km is not None and answer.radius_90_km > FAR_KM
        read += len(images)
    return {"photos": read, "refused (%)": 100 * refused / read, "refused or far (%)": 100 * (refused + far) / read}


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n\n{table.to_markdown(index=table.index.name is not None, floatfmt='.1f')}", flush=True)


if __name__ == "__main__":
    main()
