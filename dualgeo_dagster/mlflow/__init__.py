"""MLflow: tracking store, runs, registered model and promotion."""
