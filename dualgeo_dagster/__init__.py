"""DualGeo's orchestration: assets that call `dualgeo_core` and report to Dagster and MLflow."""
