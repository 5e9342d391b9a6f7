"""Shared foundations: errors, atomic files, signed tables and shards, progress reports, geometry of the sphere."""
