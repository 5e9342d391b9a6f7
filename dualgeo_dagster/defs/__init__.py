"""Everything Dagster loads: assets, checks, observed sources, schedules and sensors."""
