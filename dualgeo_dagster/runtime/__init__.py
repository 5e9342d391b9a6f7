"""Processes: the run from a terminal, both web pages, training, the run launcher, retries."""
