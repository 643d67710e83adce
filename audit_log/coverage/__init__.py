"""What the log watches of a project, and where its data could change unseen."""
