"""Recipes: how the shipped models were made."""
