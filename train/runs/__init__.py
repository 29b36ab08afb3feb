"""What runs there are, how far they came, and where and why they stopped: from their folders, without torch."""
