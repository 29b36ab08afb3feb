"""What looks at a training step from beside it: each file one observer, which the loop calls before and after every step."""
