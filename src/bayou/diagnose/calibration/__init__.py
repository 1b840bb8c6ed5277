"""Simulation-based calibration of any engine on any model with proper priors, and given one's own data."""

from bayou.diagnose.calibration.result import Calibration
from bayou.diagnose.calibration.running import calibrate

__all__ = ["Calibration", "calibrate"]
