"""Steps that go wrong: what is not finite, what stands out, what does not fit into memory. Counted, named, and stopped in time."""
