"""What a run tells while it runs: metrics.jsonl and status.json, the console, wandb."""
