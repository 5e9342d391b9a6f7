"""The dual-view model: fusion of both views, GPS encoder, losses, training and embeddings."""
