"""Tests of the cores, on virtual time and a network inside the process; wire.py has what they share."""
