"""From embeddings to candidates: stored vectors, the FAISS index, and a search that excludes leakage."""
