"""Shared foundations: errors, atomic files, artifacts and their records, progress reports, geometry of the sphere."""
