"""What a training needs of a cluster, worked out before there is one: memory, time, decode CPUs, cost.

activations   bytes that a sample's forward pass keeps for the backward pass
states        bytes of weights, gradients and optimiser states at each ZeRO stage
memory        the peak of a step on one GPU
tasks         the above for a training of a recipe
choices       the ways to make its global batch, and the best one that fits
feeding       CPUs and bandwidth that keep up with the GPUs
plan          all of it for one recipe, and what is recommended
"""
