"""What `profkit tune` finds by itself, and proves."""
