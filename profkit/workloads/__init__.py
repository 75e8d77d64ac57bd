"""The built-in training programs that `profkit trace` runs, and how it runs them."""
