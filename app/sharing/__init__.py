"""Sharing a checkpoint: its text read by a process of its own, the calibration texts that come with Trine."""
