"""Domain-free building blocks. Nothing here imports another part of trueport."""
