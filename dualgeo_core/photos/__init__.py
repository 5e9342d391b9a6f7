"""Photo sets: import into Parquet shards, access to the photos, and splits by photographer."""
