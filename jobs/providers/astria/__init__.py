"""Astria: fine-tunes of image models ("tunes"), over plain HTTP, since the vendor has no SDK.

A tune has no status, no log and no percent: it is queued until `started_training_at`, in training until `trained_at`,
and its `eta` is all that tells how far it is. There is no call to cancel one but to delete it. Its callback is neither
signed nor sent again, so it is taken for a hint and the tune is read. Facts: the documentation at docs.astria.ai, and
where that is silent, what users of it report; each guess says so where it is made.
"""
