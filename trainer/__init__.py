"""Reads the shards and trains: batch, data, loop, models, objectives, recipes."""

import schemas as _  # noqa: F401  first: it turns off what would phone home
