"""The one way in: from an event in memory to a batch that cannot be lost."""
