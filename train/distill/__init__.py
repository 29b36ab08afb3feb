"""Students and their teachers: what `distill.*` adds to a stage."""
