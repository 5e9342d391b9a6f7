"""The large multimodal model: prompt, typed answer, reply cache, client, and asking about many photos."""
