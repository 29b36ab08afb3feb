"""How the processes of a run start, watch each other, and stop together."""
