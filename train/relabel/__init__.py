"""`python -m train.relabel`: pages with the texts that a teacher reads off them, as data for students."""
