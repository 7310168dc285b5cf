"""The log of everything that happened: numbered per run and per user, without holes, and the truth of live delivery."""
