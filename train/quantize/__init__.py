"""Rounds a trained model: integers that a run was trained for, or that are chosen afterwards with a look at pages."""
