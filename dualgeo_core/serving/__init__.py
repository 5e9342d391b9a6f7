"""The web page and API that locate photos: limits, batches, and one model worker."""
