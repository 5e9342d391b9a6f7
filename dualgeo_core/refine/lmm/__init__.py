"""The large multimodal model as one more witness: prompt, typed answer, cache, client, and asking about many photos."""
