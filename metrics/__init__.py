"""Metrics: one file each, registered by decorator. Every metric takes (N, C, H, W) DN and gives (N,) float64."""
