"""Import and export of the file formats that others in the field use."""

from pairloom import offline

offline.stay_offline()  # before a library is imported that would phone home
