"""The programs that run inside a sandbox: they train a model and serve it.

They are copied into the sandbox as the package `recipes` and run in its environment, where nothing of the product can
be imported; so they import each other relatively, the standard library, and what `requirements.lock` names.
"""
