"""The pipeline steps of a profile: paths and signatures of the artifacts, and one function per artifact."""
