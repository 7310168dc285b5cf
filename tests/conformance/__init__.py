"""The promises of `jobs.providers.base`, which every provider keeps. A provider adds a short module that builds it."""
