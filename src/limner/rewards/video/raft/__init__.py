"""RAFT, optical flow by a network, on torchvision's published weights; torchvision itself is not needed."""
