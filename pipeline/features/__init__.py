"""Region features in and out: files of published layouts to tables, and training shards to files."""
