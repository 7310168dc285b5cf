"""RunPod's REST v2 as a simulator: pods with prices, stock, quotas and a life by the clock.

A pod's start script is really run, as a process of this machine in a folder of its own; or, where nothing is to be
trained for real, a scripted pod speaks to the same doors.
"""

from jobs.simulators.runpod.simulator import RunPodSimulator

__all__ = ["RunPodSimulator"]
