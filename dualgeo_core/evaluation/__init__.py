"""Evaluation of predictions: scores with intervals, plots, and the report."""
