"""The record of everything that happened, made so that it can be proved."""
