"""The commands of `dualgeo`, one module per group of commands."""
