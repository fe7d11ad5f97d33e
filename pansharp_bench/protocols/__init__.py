"""Protocols: each turns fused images of a split into per-image scores. A track is an ordered set of them."""
