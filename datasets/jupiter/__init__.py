"""Jupiter: ellipsoid and zones, maps, segments of them, simulated weather, raw JunoCam images. No dataset is here:
datasets stand on it.
"""
