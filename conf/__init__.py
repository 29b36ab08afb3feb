"""How a run is chosen: YAML files in groups, composed by Hydra, and the command line over them
(`conf.command`).
"""
