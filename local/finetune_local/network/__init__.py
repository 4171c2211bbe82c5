"""Addresses and names of pods and Services on one machine's loopback interface."""
