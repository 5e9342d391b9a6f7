"""MLflow: where runs are kept, what is logged, the registered model and its promotion."""
