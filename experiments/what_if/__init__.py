"""What profkit predicts of a change, beside what the change then gives."""
