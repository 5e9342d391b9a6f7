"""The columns of the graph's tables as Dagster's UI lists them: type, meaning, unit."""

from pathlib import Path
from typing import Any

import dagster as dg

COLUMN_SCHEMA, ROW_COUNT = "dagster/column_schema", "dagster/row_count"
MEANINGS = {
    "author": "the photographer; null where unknown",
    "city": "the city, in a synthetic set",
    "cell": "the street, in a synthetic set",
    "cluster": "from the heaviest on, from 0; -1 is scatter",
    "confidence_25km": "probability that the answer is within 25 km of the truth",
    "country": "the country's code, in a synthetic set",
    "evidence": "what the model says it saw",
    "gallery_id": "the gallery photo found",
    "gallery_row": "its row in the gallery's index",
    "gps_score": "how well the GPS encoder finds the place to fit the query, a logit",
    "granularity": "how near the model means its answer: street to continent",
    "hour": "local time of day, in a synthetic set",
    "id": "the photo, unique in its set; in tables of findings the query",
    "image": "the encoded photo, as it came",
    "kind": "similar (searched nearest first) or dissimilar (farthest first)",
    "label_map": "true classes as one-channel PNG, in a synthetic set",
    "latitude": "degrees north, WGS84",
    "location": "the place the model names",
    "longitude": "degrees east, WGS84",
    "mask": "one-channel PNG of class ids, in the photo's square crop",
    "mass": "share of the similarity of all candidates",
    "members": "candidates in the cluster",
    "method": "representation and refinement that answered",
    "model": "the multimodal model that was asked",
    "night": "taken in the dark, in a synthetic set",
    "place": "city and country nearest to the position (GeoNames)",
    "radius_50_km": "km that hold the truth for half of the photos, calibrated",
    "radius_90_km": "km that hold the truth for 90 % of the photos, calibrated",
    "radius_km": "km from the centre to the farthest member",
    "rank": "place among the query's candidates, from 1",
    "reason": "why there is no usable answer",
    "representation": "what was compared: a model variant, or the raw encoder",
    "sample": "number of the answer, where one photo is asked about more than once",
    "season": "time of year, in a synthetic set",
    "similarity": "inner product of unit vectors, -1 to 1",
    "status": "ok or answered, else why there is no answer",
    "weather": "weather and light, in a synthetic set",
}


def table_facts(parquet: Path) -> dict[str, Any]:
    """How many rows a Parquet file has, and its columns."""
    import pyarrow.parquet as pq

    return {ROW_COUNT: pq.read_metadata(parquet).num_rows, COLUMN_SCHEMA: column_schema(parquet)}


def column_schema(parquet: Path) -> dg.TableSchema:
    """The columns of a Parquet file."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(parquet)
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=field.name, type=str(field.type), description=MEANINGS.get(field.name))
            for field in schema
        ]
    )
