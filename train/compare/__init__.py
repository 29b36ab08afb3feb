"""Two runs side by side: the first step and the first tensor at which they part. Imports no torch before checkpoints are read."""
