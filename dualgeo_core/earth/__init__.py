"""The synthetic Earth: drawn streets of real cities, with true label maps, for offline use."""
