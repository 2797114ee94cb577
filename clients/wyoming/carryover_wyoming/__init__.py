"""A Wyoming server in front of Carryover: satellites and Home Assistant speak to it as to any other recogniser."""

__version__ = "0.2.0"
