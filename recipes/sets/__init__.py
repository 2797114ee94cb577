"""Sets to measure with, of several independent makes: answers, conditions of sound, sounds without speech."""
