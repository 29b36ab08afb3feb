"""What fine-tuning added, for others: peft's format, or worked into the weights."""
