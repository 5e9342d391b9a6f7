"""From embeddings to candidates: stored vectors, the FAISS index, and the search that keeps leakage out."""
