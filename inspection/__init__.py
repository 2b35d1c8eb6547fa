"""Looks at a dataset, never changes it."""

import schemas as _  # noqa: F401  first: it turns off what would phone home
