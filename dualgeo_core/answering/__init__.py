"""The path from a photo to its answer, shared by the pipeline, `dualgeo locate` and the registered model."""
