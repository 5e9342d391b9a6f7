"""Asset results for Dagster: metadata, data versions, column descriptions, data checks."""
