"""JunoCam2HST: segments of Jupiter seen by JunoCam and by Hubble's WFC3, for calibrating one by the other."""
