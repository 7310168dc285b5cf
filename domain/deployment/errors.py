"""What the deployment room refuses. What keeps a model from being deployed is told by `domain.ai_model.errors`."""
