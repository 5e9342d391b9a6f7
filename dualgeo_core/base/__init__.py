"""What every other folder builds on: errors, atomic files, signed tables and shards, progress, the sphere."""
