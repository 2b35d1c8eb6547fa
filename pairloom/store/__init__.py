"""Tables on disk: open, read, index, verify, and write them so that a shard is whole or absent."""
