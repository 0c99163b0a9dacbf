"""Kinds of label: how each is stored, decoded, warped, moved to the device, drawn, submitted and scored. The ground floor."""
