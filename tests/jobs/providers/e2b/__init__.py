"""Tests of the E2B adapter, against its simulator and the vendor's own package."""
