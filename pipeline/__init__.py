"""Everything that surrounds a stage: params, executor, store, command line."""

import schemas as _  # noqa: F401  first: it turns off what would phone home
