"""Records, the tree over them, and the signed checkpoints that hold the tree."""
