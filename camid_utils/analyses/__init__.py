"""What the notebooks ask beyond accuracy: baselines, traces, votes, transfer, robustness, devices, unknown cameras."""
