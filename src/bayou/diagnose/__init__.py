"""Checks beyond one fit's own verdict: engines against each other, calibration, sensitivity, the evidence."""
