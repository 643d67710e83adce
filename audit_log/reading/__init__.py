"""Asking the log: history, search, and opening what is sealed."""
