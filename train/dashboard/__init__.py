"""Dashboards as code: wandb's workspace and report, made from the one catalogue of metrics, and checked against what runs log."""
