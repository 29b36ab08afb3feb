"""How far training moves weights, told apart by length and by direction of their rows (DoRA, arXiv 2402.09353, section 3.2).

On any run: `stage.weight_decomposition.every=N` looks at chosen weights every N steps and writes a row for each to
weight_decomposition.jsonl, beside metrics.jsonl; the report draws them. `python -m train.weight_decomposition` runs the
controlled comparison of full fine-tuning, LoRA and DoRA, or shows the rows of real runs beside each other.
"""
