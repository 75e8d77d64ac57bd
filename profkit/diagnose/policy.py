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

BUSY_CORES_SHARE = 0.05
"""Part of the time from batch to end of step for which the loop waits for a core, from which the
report says so. In loops without workers it is under 1 % (reports/ground-truth.md)."""

RANK_BOUND_SHARE = 0.20
"""Share of the step that waits for other ranks. As for data wait: the rank could do something
else meanwhile, and cannot."""

HIGH_SEVERITY_SHARE = 0.20
"""Time at stake, as a share of the step, from which a verdict is severe; moderate below."""

NOISY_IQR_SHARE = 0.10
"""IQR over median from which the spread is named. Source: torch.utils.benchmark warns there."""

SLOW_RANK_SHARE = 0.01
"""Time that a rank's stage takes beyond the other ranks' median, as a share of the step, from
which the rank is named. Source: two processes of identical code differ by 0.8 to 1.1 %
(FACTS §10), so less than that is found between any two."""

SLOW_RANK_SPREADS = 5.0
"""The same time over the standard deviation of what equal ranks differ by, from which a rank is
named. The largest of 1,024 normal values lies at 3.2, and above 5 once in 3,000 times."""

HIDDEN_SHARE = 0.5
"""Part of a slow rank's excess that the replay must win back for the rank to be what the others
wait for; with less, other ranks are late as well, at other steps or at the same."""

REPLAY_ERROR_SHARE = 0.10
"""Difference between the replayed and the measured step from which the replay is put in doubt.
Published replays are off by 3.3 % (Lumos) and less."""
