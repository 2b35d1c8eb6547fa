"""Import and export of the file formats that others in the field use."""

import schemas as _  # noqa: F401  first: it turns off what would phone home
