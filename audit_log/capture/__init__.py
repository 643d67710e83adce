"""Where events come from: saves, deletions, relations, log-ins, requests and tasks."""
