"""The ladder of MNIST trainings: each declared as what it changes, timed, and profiled."""
