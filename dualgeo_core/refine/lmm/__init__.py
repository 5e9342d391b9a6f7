"""The large multimodal model: prompt, parsed answer, reply cache, client, and questions about many photos."""
