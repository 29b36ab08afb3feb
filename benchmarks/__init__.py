"""Ours against what it replaces, in one run, as ratios."""
