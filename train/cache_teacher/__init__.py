"""`python -m train.cache_teacher`: what a teacher predicts, written down for students of any layout."""
