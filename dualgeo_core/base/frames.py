"""Tables as Parquet files that carry the fingerprint of what made them."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dualgeo_core.base.errors import InputError
from dualgeo_core.base.files import atomic_file

_KEY = b"dualgeo.fingerprint"


def write_frame(path: Path, frame: pd.DataFrame, *, signature: str) -> None:
    """Writes `frame` atomically, signed."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with atomic_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: signature}), temporary)


def read_frame(path: Path, *, signature: str | None = None) -> pd.DataFrame:
    """The table; raises InputError where it was not made, or where something else than `signature` says made it."""
    found = frame_signature(path)
    if signature is not None and found != signature:
        raise InputError(
            f"{path} was made from other inputs (fingerprint {found}, expected {signature}): "
            f"run the step {path.stem} again"
        )
    return pq.read_table(path).to_pandas()


def frame_signature(path: Path) -> str:
    """The fingerprint the table was signed with; raises InputError where there is no such table, or it has none."""
    if not path.is_file():
        raise InputError(f"{path} is missing: run the step {path.stem}")
    metadata = pq.read_schema(path).metadata or {}
    if _KEY not in metadata:
        raise InputError(f"{path} carries no fingerprint: run the step {path.stem} again")
    return str(metadata[_KEY].decode())
