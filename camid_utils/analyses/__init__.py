"""What the notebooks ask beyond accuracy: traces, votes, transfer, robustness, fingerprints, unknown cameras."""

from . import fingerprints, learning, open_set, other_corpora, robustness, traces, transfer, voting

__all__ = ["fingerprints", "learning", "open_set", "other_corpora", "robustness", "traces", "transfer", "voting"]
