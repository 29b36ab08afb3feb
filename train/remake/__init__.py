"""What commands have in common that make a run from a run: surgery, rounding, merging."""
