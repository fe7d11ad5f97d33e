"""JunoCam from the raw framelets to a map: reading, camera model, geometry, limb fit, projection."""
