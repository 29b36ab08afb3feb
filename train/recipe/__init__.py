"""A chain of steps, from documents to a report: `python -m train.recipe`."""
