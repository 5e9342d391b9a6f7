"""Processes of a deployment: training, run launcher, instance settings, terminal output."""
