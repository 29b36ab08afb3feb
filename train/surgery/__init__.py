"""`python -m train.surgery`: a run → a run of another size, for a stage to go on from."""
