"""What is computed, one module or folder a stage; never where it lies or who runs it."""

import schemas as _  # noqa: F401  first: it turns off what would phone home
