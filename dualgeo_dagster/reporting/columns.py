"""Column types and descriptions, with units, of all tables in Dagster's UI."""

from pathlib import Path
from typing import Any

import dagster as dg

COLUMN_SCHEMA, ROW_COUNT = "dagster/column_schema", "dagster/row_count"
MEANINGS = {
    "author": "Photographer; null if unknown",
    "city": "City (synthetic sets only)",
    "cell": "Street id (synthetic sets only)",
    "cluster": "Cluster number, 0 = heaviest; -1 = no cluster",
    "confidence_25km": "Probability of an error of at most 25 km, 0 to 1",
    "country": "Country code (synthetic sets only)",
    "encoder_similarity": "Cosine of the frozen encoder's vectors of query and gallery photo",
    "evidence": "Visible evidence named by the multimodal model",
    "gallery_id": "Id of the gallery photo",
    "gallery_row": "Row of the gallery photo in the index, from 0",
    "gps_score": "Match of query and position by the GPS encoder (logit)",
    "granularity": "Precision stated by the multimodal model, street to continent",
    "hour": "Local time of day in hours, 0 to 24 (synthetic sets only)",
    "id": "Photo id, unique in its set; in result tables the query photo",
    "image": "Original image file, unchanged (bytes)",
    "kind": "Type of candidate: similar (nearest first) or dissimilar (farthest first)",
    "label_map": "True class ids as one-channel PNG (synthetic sets only)",
    "latitude": "Latitude in degrees north (WGS84)",
    "likeness": "p-value of the query being like the photos that the radii were calibrated on, 0 to 1",
    "location": "Place named by the multimodal model",
    "longitude": "Longitude in degrees east (WGS84)",
    "mask": "Class ids as one-channel PNG, in the photo's square crop",
    "mask_similarity": "Overlap of the classes' shares in the label maps of query and gallery photo, 0 to 1",
    "mass": "Share of the candidates' total similarity, 0 to 1",
    "members": "Number of candidates in the cluster",
    "method": "Representation and refinement method of the prediction",
    "model": "Name of the multimodal model",
    "night": "Taken at night (synthetic sets only)",
    "place": "Nearest city and its country (GeoNames)",
    "radius_50_km": "50 % radius in km, calibrated",
    "radius_90_km": "90 % radius in km, calibrated",
    "radius_km": "Distance in km from the centre to the most distant member",
    "rank": "Rank among the query's candidates, from 1",
    "reason": "Reason for a missing answer",
    "representation": "Representation of the comparison: a trained variant or the frozen encoder",
    "sample": "Number of the answer if several are requested per photo, from 0",
    "season": "Season (synthetic sets only)",
    "similarity": "Similarity (inner product of unit vectors), -1 to 1",
    "status": "Status: ok or answered; otherwise the reason for a missing answer",
    "taken": "Time of exposure (UTC); null if unknown",
    "weather": "Weather (synthetic sets only)",
}


def table_facts(parquet: Path) -> dict[str, Any]:
    """Row count and columns of a Parquet file, as Dagster metadata."""
    import pyarrow.parquet as pq

    return {ROW_COUNT: pq.read_metadata(parquet).num_rows, COLUMN_SCHEMA: column_schema(parquet)}


def column_schema(parquet: Path) -> dg.TableSchema:
    """The columns of a Parquet file with types and descriptions."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(parquet)
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=field.name, type=str(field.type), description=MEANINGS.get(field.name))
            for field in schema
        ]
    )
