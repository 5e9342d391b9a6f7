"""Calibrates the profile `world` on photos with known places, and scores it on photos by other photographers.

    python benchmarks/world.py [--profile world] [--photo-set im2gps3k]

Needs a photo set (`dualgeo ingest`, docs/datasets.md) that no part of GeoCLIP was trained on. Half of the photographers
calibrate, the other half score. The calibration is stored in artifacts/<profile>/refiner, which `dualgeo locate` and
`dualgeo serve` then use. Prints a Markdown table.
"""

import argparse
import sys

import pandas as pd

from dualgeo_core.answering.opening import locator_opener
from dualgeo_core.answering.place_locator import PlaceLocator, uncalibrated_refiner
from dualgeo_core.base.artifacts import Artifact, new_artifact
from dualgeo_core.base.errors import InputError
from dualgeo_core.base.frames import read_table, write_table
from dualgeo_core.base.progress import spoken
from dualgeo_core.evaluation.report import named_scores
from dualgeo_core.evaluation.scores import evaluate
from dualgeo_core.photos.photo_set import Photos, open_photos
from dualgeo_core.photos.photographers import is_query_photographer
from dualgeo_core.refine.album.albums import albums_by_author
from dualgeo_core.refine.album.fit import enough_albums
from dualgeo_core.refine.fit import fit_refiner
from dualgeo_core.refine.predict import predict
from dualgeo_core.refine.refiner import REFINER_FILE, Refiner, save_refiner
from dualgeo_core.settings import PhotoSource, PlacesSettings, RefinementSettings, RefineMethod, load_answering_settings
from dualgeo_core.views.batches import square_batches

CALIBRATING_SHARE = 0.5
SAY = spoken(print)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="world")
    parser.add_argument("--photo-set", default="im2gps3k")
    arguments = parser.parse_args()
    settings = load_answering_settings(arguments.profile)
    if not isinstance(settings, PlacesSettings):
        raise InputError(f"profile {arguments.profile} has a gallery; its pipeline calibrates it")
    photos = open_photos(PhotoSource(photo_set=arguments.photo_set), data=settings.data)
    locator = locator_opener(settings, progress=SAY)()
    assert isinstance(locator, PlaceLocator), "a profile of places has this locator"
    candidates = candidates_of(photos, settings, locator)
    calibrating = photos.frame["author"].map(lambda author: is_query_photographer(author, CALIBRATING_SHARE))
    fitted, held_out = photos.frame[calibrating], photos.frame[~calibrating]
    refiner = calibrated(candidates, fitted)
    with new_artifact(locator.calibration, {"photos": photos.fingerprint, **refiner.data}) as folder:
        save_refiner(folder / REFINER_FILE, refiner)
    print(f"{locator.calibration.path}: calibrated on {len(fitted)} photos\n")
    print(scores(candidates, held_out, refiner).to_markdown())


def candidates_of(photos: Photos, settings: PlacesSettings, locator: PlaceLocator) -> pd.DataFrame:
    """The candidates of all photos of the set, from an earlier run if models, settings and photos are the same."""
    artifact = Artifact(
        path=settings.artifacts / "candidates" / photos.folder.name,
        step="benchmarks/world.py",
        recipe=locator.calibration.recipe,
        inputs={**locator.calibration.inputs, "photos": photos.fingerprint},
    )
    if not artifact.is_current():
        encoder, parts, done = settings.profile.encoder, [], 0
        for shard in photos.shards():
            ids = iter(shard.ids)
            for images in square_batches(shard, size=encoder.image_size, batch_size=encoder.batch_size):
                parts.append(locator.candidates([next(ids) for _ in images], images))
                done += len(images)
                SAY("candidates", done, len(photos))
        write_table(artifact, pd.concat(parts, ignore_index=True))
    return read_table(artifact)


def calibrated(candidates: pd.DataFrame, truth: pd.DataFrame) -> Refiner:
    """A refiner fitted on these photos, with albums if there are enough."""
    albums = albums_by_author(truth)
    known = candidates[candidates["id"].isin(truth["id"])]
    together = albums if enough_albums(albums) else None
    return fit_refiner(candidates=known, answers=None, truth=truth, albums=together, progress=SAY)


def scores(candidates: pd.DataFrame, truth: pd.DataFrame, refiner: Refiner) -> pd.DataFrame:
    """Scores on photographers that did not calibrate: GeoCLIP's first place, and our posterior over its places."""
    methods: dict[str, tuple[RefineMethod, Refiner | None]] = {
        "GeoCLIP's first place": ("rank1", None),
        "posterior, not calibrated": ("posterior", uncalibrated_refiner()),
        "posterior, calibrated": ("posterior", refiner),
    }
    if refiner.album is not None:
        methods["all photos of an album together"] = ("album", refiner)
    known = candidates[candidates["id"].isin(truth["id"])]
    found = {}
    for name, (method, params) in methods.items():
        predictions = predict(
            candidates=known,
            answers=None,
            method=method,
            params=params,
            settings=RefinementSettings(),
            ids=truth["id"].tolist(),
            albums=albums_by_author(truth) if method == "album" else None,
            with_clusters=False,
        )
        found[name] = named_scores(evaluate(predictions=predictions, truth=truth))
    return pd.DataFrame(found)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"benchmarks/world.py: {error}")
