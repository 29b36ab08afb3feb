"""What is read: documents become typeset pages, pages become verified shards, shards become a deterministic stream.

Importing this package imports nothing heavy; each module brings in what it needs when it is used.
"""
