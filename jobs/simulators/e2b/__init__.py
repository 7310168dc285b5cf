"""E2B's wire protocol with real processes: a control plane, and the agent that sits in each sandbox.

A sandbox is a folder of its own on this machine. Its commands really run, with this interpreter as `python`; files are
really written. It is a test bed and no prison: it keeps programs apart, it does not hold hostile ones.
"""

from jobs.simulators.e2b.simulator import E2BSimulator

__all__ = ["E2BSimulator"]
