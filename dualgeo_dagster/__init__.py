"""DualGeo's graph: assets that call `dualgeo_core` and report to Dagster and MLflow."""
