"""Tests of graph/ai_model."""
