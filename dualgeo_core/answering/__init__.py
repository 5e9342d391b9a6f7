"""Photo in, answer out: the one path that the pipeline, `dualgeo locate` and the registered model share."""
