"""Tests of core/b2bua."""
