"""The only place that touches torch, threads or processes to observe a run."""
