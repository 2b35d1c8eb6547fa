"""From a published checkpoint, whatever its container and layout, to a file that the model loads strictly."""
