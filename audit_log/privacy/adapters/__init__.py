"""Detectors that other people's libraries make possible: extras, off until DETECTORS names them."""
