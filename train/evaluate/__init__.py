"""How well a model reads: `python -m train.evaluate`."""
