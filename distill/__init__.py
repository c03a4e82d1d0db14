"""LEARN: clips in, teacher and student checkpoints out."""
