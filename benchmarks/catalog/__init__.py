"""The app whose models are saved: a catalog of goods."""
