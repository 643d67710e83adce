"""A model of ten fields, a view, and the events that come of using them."""
