"""Training of optical-compression models: stages, recipes, evaluation and the model itself.

Importing this package brings in neither torch nor megatron-core nor DeepSpeed, so that help texts and
configuration errors answer at once.
"""
