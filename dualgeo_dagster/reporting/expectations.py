"""Great Expectations suites for photos, masks, embeddings and predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from dualgeo_core.refine.tables import PLACED, UNPLACED

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation


@dataclass(frozen=True)
class Verdict:
    """The result of a suite: passed or not, and a Markdown table of expected and observed values."""

    passed: bool
    table: str


def check_photos(photos: pd.DataFrame) -> Verdict:
    """Checks a photo set: ids are unique, and positions are valid and not 0,0."""
    import great_expectations.expectations as gxe

    at_origin = (photos["latitude"] == 0) & (photos["longitude"] == 0)
    frame = photos[["id", "latitude", "longitude", "author"]].assign(at_origin=at_origin.astype(int))
    return _validate(
        frame,
        [
            gxe.ExpectTableRowCountToBeBetween(min_value=1),
            gxe.ExpectColumnValuesToNotBeNull(column="id"),
            gxe.ExpectColumnValuesToBeUnique(column="id"),
            gxe.ExpectColumnValuesToNotBeNull(column="latitude"),
            gxe.ExpectColumnValuesToNotBeNull(column="longitude"),
            gxe.ExpectColumnValuesToBeBetween(column="latitude", min_value=-90, max_value=90),
            gxe.ExpectColumnValuesToBeBetween(column="longitude", min_value=-180, max_value=180),
            gxe.ExpectColumnMaxToBeBetween(column="at_origin", max_value=0),
        ],
    )


def check_masks(masks: pd.DataFrame, classes: int, photos: int) -> Verdict:
    """Checks label maps: one per photo, known classes only, two classes or more in at least 95 %.

    Columns of `masks`: id, largest_class, distinct_classes.
    """
    import great_expectations.expectations as gxe

    return _validate(
        masks,
        [
            gxe.ExpectTableRowCountToEqual(value=photos),
            gxe.ExpectColumnValuesToBeUnique(column="id"),
            gxe.ExpectColumnValuesToBeBetween(column="largest_class", min_value=0, max_value=classes - 1),
            gxe.ExpectColumnValuesToBeBetween(column="distinct_classes", min_value=2, mostly=0.95),
        ],
    )


def check_embeddings(embeddings: pd.DataFrame, photos: int, representations: int) -> Verdict:
    """Checks retrieval vectors: one per photo and representation, of unit length, not collapsed to their mean.

    Columns of `embeddings`: representation, norm, cosine_to_mean.
    """
    import great_expectations.expectations as gxe

    return _validate(
        embeddings,
        [
            gxe.ExpectTableRowCountToEqual(value=photos * representations),
            gxe.ExpectColumnValuesToNotBeNull(column="norm"),
            gxe.ExpectColumnValuesToBeBetween(column="norm", min_value=0.98, max_value=1.02),
            gxe.ExpectColumnMeanToBeBetween(column="cosine_to_mean", max_value=0.999),
        ],
    )


def check_predictions(predictions: pd.DataFrame, queries: int) -> Verdict:
    """Checks predictions: one per query, a known status, a position exactly if the status has one, and nested radii.

    Confidence has to lie between 0 and 1.
    """
    import great_expectations.expectations as gxe

    placed = predictions[["latitude", "longitude"]].notna()
    has_place = predictions["status"].isin(PLACED)
    no_radius = predictions["radius_90_km"].isna() & predictions["radius_50_km"].isna()
    frame = predictions.assign(
        place_fits_status=(placed.all(axis=1) & has_place | ~placed.any(axis=1) & ~has_place).astype(int),
        radii_nested=(no_radius | (predictions["radius_90_km"] >= predictions["radius_50_km"])).astype(int),
    )
    return _validate(
        frame,
        [
            gxe.ExpectTableRowCountToEqual(value=queries),
            gxe.ExpectColumnValuesToBeUnique(column="id"),
            gxe.ExpectColumnValuesToNotBeNull(column="status"),
            gxe.ExpectColumnValuesToBeInSet(column="status", value_set=[*PLACED, *UNPLACED]),
            gxe.ExpectColumnValuesToBeBetween(column="latitude", min_value=-90, max_value=90),
            gxe.ExpectColumnValuesToBeBetween(column="longitude", min_value=-180, max_value=180),
            gxe.ExpectColumnValuesToBeBetween(column="confidence_25km", min_value=0, max_value=1),
            gxe.ExpectColumnMinToBeBetween(column="place_fits_status", min_value=1),
            gxe.ExpectColumnMinToBeBetween(column="radii_nested", min_value=1),
        ],
    )


def _validate(frame: pd.DataFrame, expectations: "Sequence[Expectation]") -> Verdict:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    result = batch.validate(gx.ExpectationSuite(name="suite", expectations=list(expectations)))
    rows = [_row(outcome) for outcome in result.results]
    header = "| | Expectation | Column | Observed |\n|---|---|---|---|\n"
    return Verdict(passed=bool(result.success), table=header + "\n".join(rows))


def _row(outcome: Any) -> str:
    configuration = outcome.expectation_config
    bounds = {key: value for key, value in configuration.kwargs.items() if key not in ("column", "batch_id")}
    found = outcome.result.get("observed_value", outcome.result.get("unexpected_count"))
    fault = outcome.exception_info.get("exception_message") if outcome.exception_info else None
    limits = ", ".join(f"{key} {value}" for key, value in bounds.items() if value is not None)
    column = configuration.kwargs.get("column", "(table)")
    name = configuration.type.removeprefix("expect_").replace("_", " ")
    return f"| {'✓' if outcome.success else '✗'} | {name} {limits} | {column} | {fault or found} |"
