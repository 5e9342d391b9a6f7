"""Processes: runs from a terminal, web pages, training, run launcher, retries."""
