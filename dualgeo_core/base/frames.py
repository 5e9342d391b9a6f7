"""Tables as Parquet files that carry the fingerprint of their inputs."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_file

_KEY = b"dualgeo.fingerprint"


def write_frame(path: Path, frame: pd.DataFrame, *, signature: str) -> None:
    """Writes `frame` atomically, with `signature` as its fingerprint."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with atomic_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: signature}), temporary)


def read_frame(path: Path, *, signature: str | None = None) -> pd.DataFrame:
    """The table. Raises InputError if it is missing, or if its fingerprint is not `signature` (if that is given)."""
    found = frame_signature(path)
    if signature is not None and found != signature:
        raise InputError(
            f"{path} was made from other inputs (fingerprint {found}, expected {signature}): "
            f"run the step {path.stem} again"
        )
    return pq.read_table(path).to_pandas()


def frame_signature(path: Path) -> str:
    """The fingerprint of the table. Raises InputError if the table is missing or has no fingerprint."""
    if not path.is_file():
        raise InputError(f"{path} is missing: run the step {path.stem}")
    metadata = pq.read_schema(path).metadata or {}
    if _KEY not in metadata:
        raise InputError(f"{path} has no fingerprint: run the step {path.stem} again")
    return str(metadata[_KEY].decode())
