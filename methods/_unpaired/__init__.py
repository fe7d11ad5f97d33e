"""What the unpaired translation methods share: networks, the bridge, losses, the learner.

UNSB is Kim et al., "Unpaired image-to-image translation via neural Schrödinger bridge" (ICLR 2024); CUT is
Park et al., "Contrastive learning for unpaired image-to-image translation" (ECCV 2020). Images inside this
package are (N, C, H, W) in [-1, 1]; A is the source domain (PAN), B the target (MS).
"""
