"""Tables as artifacts: one Parquet file with its record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dualgeo_core.base.artifacts import Artifact, new_artifact
from dualgeo_core.base.files import reading

TABLE = "table.parquet"


def write_table(artifact: Artifact, frame: pd.DataFrame, facts: Mapping[str, Any] | None = None) -> None:
    """Makes `frame` the artifact, atomically."""
    with new_artifact(artifact, facts) as folder:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / TABLE)


def read_table(artifact: Artifact) -> pd.DataFrame:
    """The table. Raises InputError if it is missing, damaged, or was made from other inputs than there are now."""
    artifact.require_intact()
    return read_parquet(artifact.path / TABLE, remedy=f"run the step {artifact.step} again")


def read_parquet(
    path: Path,
    *,
    remedy: str,
    columns: list[str] | None = None,
    filters: list[tuple[str, str, Any]] | None = None,
) -> pd.DataFrame:
    """A Parquet file, or the rows that pass `filters`, as a frame.

    Raises InputError, with the `remedy`, if the file is missing, cut, or a page read does not match its checksum.
    """
    with reading(path, remedy=remedy):
        table = pq.read_table(path, columns=columns, filters=filters, page_checksum_verification=True)
    return table.to_pandas()
