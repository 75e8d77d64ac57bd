"""How often the gate is right: live, and resampled from what live checks recorded."""
