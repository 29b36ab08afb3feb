"""Pages to text: `python -m train.generate`."""
