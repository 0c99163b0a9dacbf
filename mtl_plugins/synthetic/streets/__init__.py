"""Procedural street scenes in MiniScapes format."""
