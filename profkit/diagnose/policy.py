"""Every threshold of the verdicts, with its unit and its source. Nothing else decides."""

MIN_STEPS = 20
"""Active steps under which no verdict is given. First policy of the project's design."""

MAX_RELATIVE_INTERVAL = 0.5
"""Width of the 95 % interval of the share that decides, over its value, above which the data
does not suffice. First policy of the project's design."""

INPUT_BOUND_SHARE = 0.20
"""Share of the step. Source: XProf calls a step with 20 % input time highly input-bound."""

INPUT_BOUND_MODERATE_SHARE = 0.05
"""Share of the step. Source: XProf calls 5 % input time moderately input-bound."""

DEVICE_IDLE_SHARE = 0.5
"""Part of the data wait with an idle device from which the wait is taken to cost time. A wait
behind queued kernels costs none; below half of it idle, most of it was hidden."""

TRANSFER_BOUND_SHARE = 0.10
"""Share of the step. First policy of the project's design."""

OPTIMIZER_BOUND_SHARE = 0.30
"""Share of the step, and the largest stage. First policy of the project's design."""

OTHER_BOUND_SHARE = 0.20
"""Share of the step. First policy of the project's design."""

COMPUTE_BOUND_SHARE = 0.50
"""Share of forward and backward together. The first policy asked for 70 % and nothing else
above its limit. Measured on a 2-core CPU, a small CNN at batch 64 held 69 % in them beside 25 %
of data wait, and its step in memory was 1.3 times faster: most of the step is the model, so
that comes first, and the data wait is named beside it with what removing it would win."""

CONTENTION_SHRINK_SHARE = 0.20
"""Part of forward to optimizer that must vanish without workers. First policy of the design."""

HIGH_SEVERITY_SHARE = 0.20
"""Time at stake, as a share of the step, from which a verdict is severe; moderate below."""

NOISY_IQR_SHARE = 0.10
"""IQR over median from which the spread is named. Source: torch.utils.benchmark warns there."""
