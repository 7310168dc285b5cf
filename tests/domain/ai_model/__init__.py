"""Tests of the ai_model room."""
