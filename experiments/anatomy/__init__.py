"""What one batch costs its producer: injected parts beside what profkit says, and what it costs."""
