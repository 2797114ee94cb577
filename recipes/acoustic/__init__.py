"""How the shipped acoustic model was trained: speech, augmentation, losses, training, calibration."""
