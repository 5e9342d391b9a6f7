"""What assets tell Dagster: metadata, data versions, column descriptions, data checks."""
