"""How much of what they look for the detectors find, and how much else they take for it."""
