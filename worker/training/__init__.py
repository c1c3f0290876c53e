"""The model side: data set, augmentation, training loop, evaluation."""
