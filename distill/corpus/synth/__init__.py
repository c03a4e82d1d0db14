"""A generator of continuous signing with a controlled gap between what pixels show and what a skeleton tracker sees."""
