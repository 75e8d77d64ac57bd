"""Says which part of a PyTorch training step costs the time."""
