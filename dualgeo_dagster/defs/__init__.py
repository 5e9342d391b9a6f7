"""All Dagster definitions: assets, checks, observed sources, schedules and sensors."""
