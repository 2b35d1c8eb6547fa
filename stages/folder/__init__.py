"""A folder of pictures in the place of a URL list: see `pairloom extract`."""
