"""The synthetic Earth: drawn streets of real cities with true label maps, so that everything runs offline."""
