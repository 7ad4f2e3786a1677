"""The image network: a ResNet and its weights."""
