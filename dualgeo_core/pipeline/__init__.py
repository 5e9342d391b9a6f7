"""The pipeline steps of a profile: paths, recipes and inputs of the artifacts, and one function per artifact."""
