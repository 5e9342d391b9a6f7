"""What a run will take: time, disk, memory and cost of each asset, from rates measured in a short calibration."""
