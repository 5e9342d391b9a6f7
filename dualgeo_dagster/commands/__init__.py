"""The `dualgeo` commands of this package."""
