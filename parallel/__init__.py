"""Where the model is computed: topology, layers, engine, checkpoints. Importing it loads nothing heavy."""
