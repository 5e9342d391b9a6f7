"""Photo sets: how files become Parquet shards, how they are read, and who took which photo."""
