"""How good predictions are: scores with intervals, plots, and the report."""
