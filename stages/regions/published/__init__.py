"""The published Faster R-CNNs of the field as one model; what differs between them is a setting of the catalogue."""
