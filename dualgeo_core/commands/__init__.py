"""The commands of `dualgeo`, one module per group."""
