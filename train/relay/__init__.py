"""Gives wandb what a run writes into its folder: from a process beside it while it runs, or afterwards by hand.

The run's own process never speaks to wandb and never waits for it: no server, no service of wandb's and no disk behind them can
hold up or end a step. What wandb misses by a kill or an outage it is given when the run goes on, as metrics.jsonl has it all.
"""
