"""The published figures that claims stand beside."""

# FID of I-CFM on CIFAR-10 by Euler steps: plain, pruned, norm-aligned and pruned
CIFAR10 = {5: (34.49, 28.78, 48.10), 10: (13.30, 10.37, 16.58), 20: (7.75, 6.40, 7.04), 100: (4.35, 3.97, 3.64)}
