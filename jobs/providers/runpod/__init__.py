"""The provider `RUNPOD`: rented machines with GPUs ("pods"), each of which runs our start script.

RunPod tells whether a pod lives, not how its program ended: no exit code, no callback. So the truth has three parts:
the script's own reports (`pod.sh` and its helpers, which run in the pod), the list of pods, and silence.
"""
