"""The dual-view model: fusion of photo and label map, GPS encoder, losses, training, embeddings."""
