"""How long records stay where, and how they leave: into an archive that proves itself."""
