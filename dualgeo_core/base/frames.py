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


def read_parquet(path: Path, *, remedy: str, columns: list[str] | None = None) -> pd.DataFrame:
    """A Parquet file as a frame. Raises InputError, with the `remedy`, if it is missing or damaged."""
    with reading(path, remedy=remedy):
        return pq.read_table(path, columns=columns).to_pandas()
