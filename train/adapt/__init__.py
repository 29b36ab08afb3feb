"""What fine-tuning puts beside a model's frozen weights: adapters, prefixes, prompts."""
