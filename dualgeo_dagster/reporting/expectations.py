"""Great Expectations suites for photos, masks, embeddings and predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from dualgeo_core.refine.statuses import PLACED, UNPLACED

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation


@dataclass(frozen=True)
class Verdict:
    """The result of a suite: passed or not, and for each sentence that was checked, what was found."""

    passed: bool
    findings: dict[str, str]


def check_photos(photos: pd.DataFrame) -> Verdict:
    """Checks a photo set: ids are unique, and positions are valid and not 0,0."""
    import great_expectations.expectations as gxe

    at_origin = (photos["latitude"] == 0) & (photos["longitude"] == 0)
    frame = photos[["id", "latitude", "longitude", "author"]].assign(at_origin=at_origin.astype(int))
    return _validate(
        frame,
        {
            "There is at least one photo": gxe.ExpectTableRowCountToBeBetween(min_value=1),
            "Every photo has an id": gxe.ExpectColumnValuesToNotBeNull(column="id"),
            "Ids are unique": gxe.ExpectColumnValuesToBeUnique(column="id"),
            "Every photo has a latitude": gxe.ExpectColumnValuesToNotBeNull(column="latitude"),
            "Every photo has a longitude": gxe.ExpectColumnValuesToNotBeNull(column="longitude"),
            "Latitudes are between -90° and 90°": gxe.ExpectColumnValuesToBeBetween(
                column="latitude", min_value=-90, max_value=90
            ),
            "Longitudes are between -180° and 180°": gxe.ExpectColumnValuesToBeBetween(
                column="longitude", min_value=-180, max_value=180
            ),
            "No position is 0,0": gxe.ExpectColumnValuesToBeInSet(column="at_origin", value_set=[0]),
        },
    )


def check_masks(masks: pd.DataFrame, classes: int, photos: int) -> Verdict:
    """Checks label maps: one per photo, known classes only, two classes or more in at least 95 %.

    Columns of `masks`: id, largest_class, distinct_classes.
    """
    import great_expectations.expectations as gxe

    return _validate(
        masks,
        {
            f"There are {photos:,} label maps, one per photo": gxe.ExpectTableRowCountToEqual(value=photos),
            "Ids are unique": gxe.ExpectColumnValuesToBeUnique(column="id"),
            f"Classes are between 0 and {classes - 1}": gxe.ExpectColumnValuesToBeBetween(
                column="largest_class", min_value=0, max_value=classes - 1
            ),
            "At least 95 % of the label maps have two classes or more": gxe.ExpectColumnValuesToBeBetween(
                column="distinct_classes", min_value=2, mostly=0.95
            ),
        },
    )


def check_embeddings(embeddings: pd.DataFrame, photos: int, representations: int) -> Verdict:
    """Checks retrieval vectors: one per photo and representation, of unit length, not collapsed to their mean.

    Columns of `embeddings`: representation, norm, cosine_to_mean.
    """
    import great_expectations.expectations as gxe

    expected = photos * representations
    return _validate(
        embeddings,
        {
            f"There are {expected:,} vectors, one per photo and representation": gxe.ExpectTableRowCountToEqual(
                value=expected
            ),
            "Every vector has a length": gxe.ExpectColumnValuesToNotBeNull(column="norm"),
            "Vectors have length 1 (0.98 to 1.02)": gxe.ExpectColumnValuesToBeBetween(
                column="norm", min_value=0.98, max_value=1.02
            ),
            "The mean cosine to the mean vector is below 0.999": gxe.ExpectColumnMeanToBeBetween(
                column="cosine_to_mean", max_value=0.999
            ),
        },
    )


def check_predictions(predictions: pd.DataFrame, queries: int) -> Verdict:
    """Checks predictions: one per query, a known status, a position exactly if the status has one, and nested radii.

    Confidence has to lie between 0 and 1.
    """
    import great_expectations.expectations as gxe

    placed = predictions[["latitude", "longitude"]].notna()
    has_place = predictions["status"].isin(list(PLACED))
    no_radius = predictions["radius_90_km"].isna() & predictions["radius_50_km"].isna()
    frame = predictions.assign(
        place_fits_status=(placed.all(axis=1) & has_place | ~placed.any(axis=1) & ~has_place).astype(int),
        radii_nested=(no_radius | (predictions["radius_90_km"] >= predictions["radius_50_km"])).astype(int),
    )
    return _validate(
        frame,
        {
            f"There are {queries:,} predictions, one per query": gxe.ExpectTableRowCountToEqual(value=queries),
            "Ids are unique": gxe.ExpectColumnValuesToBeUnique(column="id"),
            "Every prediction has a status": gxe.ExpectColumnValuesToNotBeNull(column="status"),
            "Statuses are known": gxe.ExpectColumnValuesToBeInSet(column="status", value_set=[*PLACED, *UNPLACED]),
            "Latitudes are between -90° and 90°": gxe.ExpectColumnValuesToBeBetween(
                column="latitude", min_value=-90, max_value=90
            ),
            "Longitudes are between -180° and 180°": gxe.ExpectColumnValuesToBeBetween(
                column="longitude", min_value=-180, max_value=180
            ),
            "Confidences are between 0 and 1": gxe.ExpectColumnValuesToBeBetween(
                column="confidence_25km", min_value=0, max_value=1
            ),
            "A position is given exactly if the status says so": gxe.ExpectColumnValuesToBeInSet(
                column="place_fits_status", value_set=[1]
            ),
            "The 90 % radius is at least the 50 % radius": gxe.ExpectColumnValuesToBeInSet(
                column="radii_nested", value_set=[1]
            ),
        },
    )


def _validate(frame: pd.DataFrame, expectations: "Mapping[str, Expectation]") -> Verdict:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    findings, passed = {}, True
    for sentence, expectation in expectations.items():
        outcome = batch.validate(expectation)
        passed = passed and bool(outcome.success)
        findings[sentence] = _found(outcome)
    return Verdict(passed=passed, findings=findings)


def _found(outcome: Any) -> str:
    """What an expectation found: a number of rows, a mean, or how many values hold and examples of those that do not.

    An error of Great Expectations is shown in place of the result.
    """
    fault = outcome.exception_info.get("exception_message") if outcome.exception_info else None
    if fault:
        return f"✗ {fault}"
    mark, seen = "✓" if outcome.success else "✗", outcome.result
    if "observed_value" in seen:
        observed = seen["observed_value"]
        return f"{mark} {observed:.3f}" if isinstance(observed, float) else f"{mark} {observed:,}"
    # An expectation about missing values has no count of them.
    count, faulty = seen["element_count"] - seen.get("missing_count", 0), seen["unexpected_count"]
    examples = ", ".join(map(str, seen["partial_unexpected_list"][:3]))
    return f"{mark} {count - faulty:,} of {count:,}" + (f"; not: {examples}" if faulty else "")
