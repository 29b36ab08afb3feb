"""Functions from a stored weight to the weight that is used: low-rank factors, masks, rounding."""
