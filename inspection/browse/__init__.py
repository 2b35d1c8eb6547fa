"""`pairloom browse`: a local site over datasets, read in place. Needs the extra `browse`."""
